"""What validation images ask of a network that is to reach a target on the test images, by networks on record.

Images that are split off for validation may be harder or easier than the test images. Of MNIST they are harder: the
networks on record make a sixth fewer errors on the test images (results/pages/unaided-search.md). A search that asked
the target of the validation images would refuse what reaches it; one on easier images would confirm in vain.

No test image is looked at for this, only what earlier confirmations came to. A confirmation is not biased by it: its
seeds are fresh, and every attempt counts.
"""

from collections.abc import Collection, Iterable, Sequence
from statistics import fmean

from search.data.split import Portion
from search.records.jsonl import Record
from search.records.models import Confirmation, Trial
from search.tasks.scale import score_at, shortfall
from search.tasks.score import Score
from search.training.recipe import Recipe


def gaps(records: Iterable[Record], data: Portion, score: Score) -> list[float]:
    """How much worse networks on record came out on the test images than on validation images, one a network.

    On the scale of `search.tasks.scale`: below 0 where it was better. Networks count that a trial has validated and a
    confirmation tested with the same recipe on these data, whatever images were split off.
    """
    validated: dict[tuple, list[float]] = {}
    tested: dict[tuple, list[float]] = {}
    for record in records:
        if not isinstance(record, Trial | Confirmation) or record.state != "complete":
            continue
        of = record.dataset
        if (of.label, of.variant) != (data.label, data.variant):
            continue
        if isinstance(record, Trial) and record.accuracy_validation is not None:
            validated.setdefault(_network(record), []).append(record.accuracy_validation)
        elif isinstance(record, Confirmation) and record.mean is not None:
            if of.variant != "folder" or of.digest == data.digest:
                tested.setdefault(_network(record), []).append(record.mean)
    both = [network for network in tested if network in validated]
    return [shortfall(score, fmean(tested[network]), fmean(validated[network])) for network in both]


def calibrated(thresholds: Sequence[float], found: Collection[float], score: Score) -> list[float]:
    """The validation scores that correspond to scores `thresholds` on the test images, given the gaps `found`.

    The mean gap counts as if one more network had none: a single one tells little.
    """
    gap = sum(found) / (len(found) + 1)
    return [score_at(score, -gap, threshold) if gap else threshold for threshold in thresholds]


def _network(record: Trial | Confirmation) -> tuple:
    """The network and its recipe; the precision that it was trained in makes it no other."""
    recipe = Recipe.model_validate(record.recipe).model_copy(update={"precision": "float32"})
    return record.config, recipe.model_dump_json()
