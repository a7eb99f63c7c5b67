"""Which precision a training multiplies in: float32, or bfloat16 where the processor has units for it."""

from typing import TYPE_CHECKING

from search.errors import UserError
from search.training.recipe import MULTIPLE, Recipe
from wavemix.config import LiteConfig

if TYPE_CHECKING:  # with it comes torch, which takes seconds
    from search.data.split import Portion

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bfloat16")
SMALLEST = 10_000  # parameters: smaller networks gain little, and each of their weights counts for more


def settled_precision(
    asked: str, config: LiteConfig, recipe: Recipe, data: "Portion", members: int, device: str = "cpu"
) -> Recipe:
    """The recipe with the precision that so many networks of `config` train in on this machine.

    `asked` is "float32", "bfloat16" or "auto": bfloat16 from 10,000 parameters on where the processor can and a
    measurement, made once a machine and shape, says that it is faster; what the recipe says where it says it.
    Raises UserError where there is no bfloat16 but the user wants it.
    """
    from wavemix.stack import bfloat16_lacks, bfloat16_wins

    if asked == AUTO and "precision" in recipe.model_fields_set:
        asked = recipe.precision
    lacking = None if asked == "float32" else bfloat16_lacks(config, device)
    if asked == "bfloat16" and lacking:
        raise UserError(f"--precision bfloat16: {lacking}")
    if asked == AUTO:
        narrow = lacking is None and config.parameters() >= SMALLEST
        batch = min(recipe.batch_size, len(data) // MULTIPLE * MULTIPLE)
        narrow = narrow and batch > 0 and bfloat16_wins(config, members, batch, *data.shape[1:])
        asked = "bfloat16" if narrow else "float32"
    return recipe.model_copy(update={"precision": asked})
