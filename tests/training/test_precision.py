"""Which precision a training is in: what is asked for, what the processor has, what a measurement said."""

import pytest
import torch
from bars import CONFIG, bars

from search.errors import UserError
from search.training.precision import SMALLEST, settled_precision
from search.training.recipe import Recipe, Training, filled
from search.training.train import train
from wavemix import kernels

DATA = bars(64)
LARGE = CONFIG.model_copy(update={"final_dim": 32, "ff_channel": 32, "depth": 8})
RECIPE = Recipe(epochs=2, batch_size=32)
NARROW = Recipe(epochs=2, batch_size=32, precision="bfloat16")


@pytest.fixture
def able(monkeypatch):
    """A processor that can; what it is measured to be faster in is chosen by what this returns."""
    faster = {"bfloat16": True}
    monkeypatch.setattr("wavemix.stack.bfloat16_lacks", lambda config, device="cpu": None)
    monkeypatch.setattr("wavemix.stack.bfloat16_wins", lambda *_: faster["bfloat16"])
    return faster


def settled(asked, config=LARGE, recipe=RECIPE) -> str:
    return settled_precision(asked, config, recipe, DATA, 2).precision


def test_auto_is_what_is_faster_from_ten_thousand_parameters_on(able):
    assert CONFIG.parameters() < SMALLEST <= LARGE.parameters()
    assert settled("auto") == "bfloat16" and settled("auto", CONFIG) == "float32"
    able["bfloat16"] = False
    assert settled("auto") == "float32" and settled("bfloat16") == settled("bfloat16", CONFIG) == "bfloat16"
    assert settled("auto", recipe=NARROW) == "bfloat16" and settled("float32", recipe=NARROW) == "float32"


def test_what_is_not_there_is_said_or_done_without(monkeypatch):
    monkeypatch.setattr("wavemix.stack.bfloat16_lacks", lambda config, device="cpu": "the reason")
    assert settled("auto") == "float32"
    for recipe, asked in ((RECIPE, "bfloat16"), (NARROW, "auto")):
        with pytest.raises(UserError, match="^--precision bfloat16: the reason$"):
            settled(asked, recipe=recipe)


def test_records_without_a_precision_are_of_float32():
    old = {name: value for name, value in RECIPE.model_dump(mode="json").items() if name != "precision"}
    assert RECIPE.model_dump(mode="json") == old and filled(old) == filled(RECIPE.model_dump(mode="json"))
    assert Recipe.model_validate(old).precision == "float32" and NARROW.model_dump()["precision"] == "bfloat16"
    wide, narrow, said = (
        Training(LARGE, recipe, "d") for recipe in (RECIPE, NARROW, RECIPE.model_copy(update={"precision": "float32"}))
    )
    assert wide.identity == said.identity != narrow.identity
    assert wide.checkpoint_name([0]) == said.checkpoint_name([0]) != narrow.checkpoint_name([0])


@pytest.mark.skipif(not kernels.bfloat16(), reason="needs a processor with AVX512-BF16, and a compiler")
def test_a_training_in_bfloat16_repeats_and_goes_on(tmp_path):
    config, path = CONFIG.model_copy(update={"final_dim": 8, "ff_channel": 8}), tmp_path / "c"

    def weights(recipe, checkpoint=None, on_epoch=None):
        (trained,) = train(config, recipe, DATA, [0], checkpoint=checkpoint, on_epoch=on_epoch)
        return torch.cat([value.flatten().double() for value in trained.state.values()])

    def interrupt(epoch, _):
        raise KeyboardInterrupt

    whole = weights(NARROW)
    assert torch.equal(whole, weights(NARROW)) and not torch.equal(whole, weights(RECIPE))
    with pytest.raises(KeyboardInterrupt):
        weights(NARROW, path, interrupt)
    with pytest.raises(UserError, match="is the checkpoint of another training"):
        weights(RECIPE, path)
    assert torch.equal(whole, weights(NARROW, path))
