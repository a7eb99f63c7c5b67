"""Where a study lives: its folder under the results directory, locked while a run works on it, and Optuna's storage."""

from pathlib import Path

import optuna

from .environment import mask
from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two runs of one study are not kept apart
    fcntl = None


def writable(folder: Path) -> None:
    """Create `folder` and try it. Raises UserError where nothing can be written there."""
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --results") from error


class Lock:
    """Held by the one run of a study; two runs would take each other's trials for interrupted ones.

    Freed by `close` or with the process, however that ends. Raises UserError where another process holds it.
    """

    def __init__(self, folder: Path):
        self.file = open(folder / "lock", "w")
        if fcntl is None:
            return
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.close()
            raise UserError(
                f"the study {folder.name} is being run already: wait for that run, or give another --name"
            ) from error

    def close(self) -> None:
        self.file.close()


def open_study(url: str, name: str, identity: dict, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """The study `name` in the storage at `url`, created where there is none.

    `identity` is what may not change between runs of one study (data digest, target, recipe, ...): kept with a new
    study, compared with an old one's. Raises UserError where they differ, or where the storage can't be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=url, study_name=name, direction="maximize", load_if_exists=True, sampler=sampler
        )
        stored = study.user_attrs.get("identity")
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # SQLAlchemy's, the driver's and Optuna's own, according to the URL
        raise UserError(f"the storage {mask(url)} cannot be opened: {_first_line(error)}") from error
    if stored is None and trials:
        raise UserError(f"the study {name} in {mask(url)} was not made by this program: give --name for a new one")
    if stored is None:
        study.set_user_attr("identity", identity)
    elif stored != identity:
        key = next(key for key in {**identity, **stored} if stored.get(key) != identity.get(key))
        raise UserError(
            f"the storage holds another study named {name} (its {key} differs): give --name for a new one, or the "
            "options it was started with to go on"
        )
    return study


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return mask(lines[0])[:200]
