"""More workers for a study that `wavemix search` has started."""

from pathlib import Path

from search import signals
from search.data import datasets
from search.data.source import Source
from search.errors import UserError
from search.records.environment import code
from search.records.results import Results
from search.study.handle import StudyHandle
from search.study.search import Search
from search.study.setting import Setting
from search.training.recipe import Recipe


def join(study: StudyHandle, data_dir: Path | None, results: Results, **options) -> Search:
    """A worker of the study: the search it was started as, with this machine's data. `options` are those of `Search`.

    Raises UserError where the study is stopped, or was made with other images or another version of this program.
    """
    identity = study.identity
    if study.stopped:
        raise UserError(
            f"the study {study.name} was stopped at {study.stopped[:16]}: `wavemix search` resumes it, then workers "
            "may join"
        )
    if study.code != code():
        raise UserError(
            f"the study {study.name} runs version {study.code} of this program, this is {code()}: install that one"
        )
    with signals.prompt():
        split = datasets.load(Source(_here(study, data_dir), study.reading), "train", data_dir)
    if split.digest != identity["digest"]:
        raise UserError(
            f"{split.label} on this machine is not what the study {study.name} was made with: its digest is "
            f"{split.digest[:16]}, not {identity['digest'][:16]}; copy the data from there"
        )
    setting = Setting(
        split,
        identity["target"],
        Recipe.model_validate(identity["recipe"]),
        tune=identity.get("tune"),
        family=identity["family"],
        name=study.name,
        seed=identity["seed"],
        members=identity["members"],
        ceiling=identity["ceiling"],
        minimise=identity.get("minimise", "parameters"),
        limits=identity.get("limits", {}),
        validation_count=identity["validation"],
        threshold=identity.get("threshold"),
    )
    return Search.open(setting, results, storage=study.url, source=study.source, **options)


def _here(study: StudyHandle, data_dir: Path | None) -> str:
    """The data on this machine: a folder that lies elsewhere here is looked for in `data_dir`."""
    if "/" not in study.source or Path(study.source).exists():
        return study.source
    copy = data_dir / Path(study.source).name if data_dir else None
    if copy is None or not copy.exists():
        raise UserError(f"{study.source} is not on this machine: copy it, and name the folder it is in by --data-dir")
    return str(copy)
