"""What the project uses of Optuna's private parts is still there: what fails names the part that a version changed.

The parts are looked up by name, so that a lost one is told here and not as an import that breaks everything.
"""

import importlib
import inspect
from pathlib import Path

import optuna
import pytest
from names import used

PARTS = {  # module, name in it -> the parameters that it is called with or overridden for, None for what is no function
    ("optuna.storages._cached_storage", "_CachedStorage"): "backend",
    ("optuna.storages._rdb.storage", "_create_scoped_session"): "scoped_session ignore_integrity_error",
    ("optuna.storages._rdb.storage", "RDBStorage._get_trials"): (
        "self study_id states included_trial_ids trial_id_greater_than"
    ),
    ("optuna.storages._rdb.storage", "datetime"): None,
    ("optuna.storages._rdb.models", "StudyModel.find_or_raise_by_id"): "study_id session for_update",
    ("optuna.storages._rdb.models", "TrialValueModel.stored_repr_to_value"): "value float_type",
    ("optuna.storages._rdb.models", "TrialIntermediateValueModel.stored_repr_to_intermediate_value"): (
        "value float_type"
    ),
    ("optuna.storages._rdb.models", "TrialIntermediateValueModel.TrialIntermediateValueType.FINITE"): None,
    ("optuna.study._frozen", "FrozenStudy"): ("study_name direction user_attrs system_attrs study_id directions"),
}
COLUMNS = {
    "TrialModel": "trial_id study_id number state _datetime_start_utc _datetime_complete_utc",
    "TrialParamModel": "trial_id param_name param_value distribution_json",
    "TrialValueModel": "trial_id objective value value_type",
    "TrialIntermediateValueModel": "trial_id step intermediate_value intermediate_value_type",
    "TrialUserAttributeModel": "trial_id key value_json",
    "TrialSystemAttributeModel": "trial_id key value_json",
}
CHANGED = f"Optuna {optuna.__version__}: {{}}; adapt search/study/optuna_internals.py and what uses it"


def found(module: str, name: str):
    """The part; the test fails where it is gone."""
    try:
        part = importlib.import_module(module)
        for word in name.split("."):
            part = getattr(part, word)
    except (ImportError, AttributeError):
        pytest.fail(CHANGED.format(f"{module}.{name} is gone"), pytrace=False)
    return part


@pytest.mark.parametrize(("module", "name"), PARTS)
def test_parts_are_there_and_take_what_they_took(module, name):
    part, expected = found(module, name), PARTS[module, name]
    if expected is not None:
        parameters = " ".join(inspect.signature(part).parameters)
        assert parameters == expected, CHANGED.format(f"{module}.{name} takes ({parameters}), not ({expected})")


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_have_the_columns_that_are_read(name):
    model = found("optuna.storages._rdb.models", name)
    missing = [column for column in COLUMNS[name].split() if not hasattr(model, column)]
    assert not missing, CHANGED.format(f"{name} has no {', '.join(missing)}")


def test_a_cached_storage_reads_trials_by_the_method_that_is_overridden():
    from search.study.optuna_internals import cached, engine

    calls = []

    class Backend(optuna.storages.RDBStorage):
        def _get_trials(self, *arguments, **options):
            calls.append(options.keys())
            return super()._get_trials(*arguments, **options)

    backend = Backend("sqlite://")
    storage = cached(backend)
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_int("x", 0, 9), n_trials=2)
    assert len(study.get_trials()) == 2
    assert calls, CHANGED.format("_CachedStorage no longer calls RDBStorage._get_trials")
    assert engine(storage) is backend.engine, CHANGED.format("_CachedStorage._backend is no longer its RDBStorage")
    assert engine(backend) is None


def test_ids_and_what_was_suggested():
    from search.study.optuna_internals import frozen_study, id_of_study, id_of_trial, rewrite

    study = optuna.create_study()
    storage = study._storage
    assert id_of_study(storage.get_all_studies()[0]) == storage.get_study_id_from_name(study.study_name)
    made = frozen_study("x", optuna.study.StudyDirection.MINIMIZE, {"a": 1}, {}, 7)
    assert (made.study_name, made.direction.name, made.user_attrs, id_of_study(made)) == ("x", "MINIMIZE", {"a": 1}, 7)
    trial = study.ask({"x": optuna.distributions.CategoricalDistribution((3, 5, 8))})
    assert storage.get_trial(id_of_trial(study.get_trials()[0])).number == trial.number
    for value in (3, 8):
        rewrite(study, trial, {"x": value})
        assert study.get_trials()[0].params == {"x": value}, CHANGED.format("set_trial_param does not rewrite")


def test_keys_of_attributes():
    """A new name would leave the dashboard's page without names or feasibility."""
    from search.study.optuna_internals import CONSTRAINTS, METRIC_NAMES

    for key, module, name in (
        (CONSTRAINTS, "optuna.study._constrained_optimization", "_CONSTRAINTS_KEY"),
        (METRIC_NAMES, "optuna.study.study", "_SYSTEM_ATTR_METRIC_NAMES"),
    ):
        assert found(module, name) == key, CHANGED.format(f"{module}.{name} is {found(module, name)!r}, not {key!r}")


def test_keys_of_the_dashboard():
    from search.study.optuna_internals import CONSTRAINTS, METRIC_NAMES

    pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")
    assert found("optuna_dashboard._serializer", "CONSTRAINTS_KEY") == CONSTRAINTS
    assert found("optuna_dashboard._named_objectives", "SYSTEM_ATTR_METRIC_NAMES") == METRIC_NAMES


def test_no_other_file_has_a_private_part_of_optuna():
    root = Path(__file__).parents[2]
    for path in [*(root / "search").rglob("*.py"), *(root / "scripts").rglob("*.py")]:
        if path.name == "optuna_internals.py":
            continue
        for names in used(path):
            private = [n for n in names if n.startswith("optuna.") and "._" in n]
            private += [n for n in names if n.endswith(("._backend", "._study_id", "._trial_id", "._storage"))]
            assert not private, f"{path.relative_to(root)}: {private[0]} belongs into search/study/optuna_internals.py"
