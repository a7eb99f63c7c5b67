"""Training for tasks on pixels: what it learns, that it repeats itself, and what it refuses."""

import pytest
import torch
from scenes import scenes

from search.data import datasets
from search.data.source import Reading, Source
from search.data.split import split_validation
from search.errors import UserError
from search.records.jsonl import read
from search.tasks.task import task_of
from search.training.recipe import Recipe
from wavemix import LiteConfig, WaveMixLite

NETWORK = LiteConfig(
    in_channels=3, num_classes=4, final_dim=12, depth=2, stride=(2, 1), upsampling="bilinear",
    head={"task": "segmentation", "skip": True},
)  # fmt: skip
RECIPE = Recipe(
    epochs=4, batch_size=16, optimizer="muon", lr=0.02, patch=24, patches=4, scale=0.2, flip=True, colour=0.1
)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    source = Source(str(scenes(tmp_path_factory.mktemp("scenes"))), Reading(task="segmentation"))
    return split_validation(datasets.load(source, "train"), 3, 0)


def trained(split, recipe=RECIPE, seeds=(0, 1), **options):
    return task_of(split[0]).train(NETWORK, recipe, split[0], list(seeds), validation=split[1], **options)


def test_it_learns(split):
    (found,) = trained(split, RECIPE.model_copy(update={"epochs": 12}), [0])
    first, last = found.curve[0], found.curve[-1]
    assert last.accuracy > 0.45 and last.train_loss < 0.7 * first.train_loss, "all ground is 0.2"
    task = task_of(split[0])
    measured = task.measure(NETWORK, [found.state], *split)
    assert measured.scores == [pytest.approx(found.accuracy)], "the state gives what the curve says"
    assert measured.beside["pixel accuracy"][0] > 0.7 and len(measured.beside) == 5


def test_cut_off_it_resumes_to_the_same_weights(split, tmp_path, monkeypatch):
    monkeypatch.setattr("search.training.course.CHECKPOINT_SECONDS", 0.0)
    whole = trained(split)
    path = tmp_path / "x.checkpoint"

    def stop(epoch, latest):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(split, checkpoint=path, on_epoch=stop)
    again = trained(split, checkpoint=path)
    for one, other in zip(whole, again):
        assert [p.accuracy for p in one.curve] == [p.accuracy for p in other.curve]
        assert all(torch.equal(value, other.state[name]) for name, value in one.state.items())
    (alone,) = trained(split, seeds=[1])
    images = torch.stack(split[1].images) / 255
    first, company, itself = (scores(member, images) for member in (whole[0], whole[1], alone))
    assert torch.allclose(company, itself, atol=1e-4) and not torch.allclose(first, itself, atol=0.1)


def scores(member, images):
    """By a network of its state. States differ: no gradient says where a bias before a BatchNorm should go."""
    network = WaveMixLite(NETWORK).eval()
    network.load_state_dict(member.state)
    with torch.no_grad():
        return network(images)


def test_pruned(split):
    (found,) = trained(split, seeds=[0], on_epoch=lambda epoch, latest: epoch == 2)
    assert found.stopped == "pruned" and len(found.curve) == 2


@pytest.mark.parametrize(
    "changes", [{"loss": "focal"}, {"loss": "lovasz"}, {"class_weights": True}, {"patch": 0, "scale": 0.0}]
)
def test_losses_and_whole_images(split, changes):
    (found,) = trained(split, RECIPE.model_copy(update={"epochs": 1, **changes}), [0])
    assert found.stopped is None and found.accuracy is not None


@pytest.mark.parametrize(
    "config, recipe, said",
    [
        ({}, {"patch": 33}, "patches of 33 pixels can't be cut"),
        ({}, {"loss": "l1"}, "loss 'l1' is none of segmentation"),
        ({}, {"mixup": 0.2}, "mixup is for classification"),
        ({}, {"patch": 0}, "without scale and turns"),
        ({"num_classes": 7}, {}, "num_classes 7"),
        ({"head": {"task": "classification"}}, {}, "task classification"),
    ],
)
def test_refused_before_anything_is_trained(split, config, recipe, said):
    network = LiteConfig.model_validate(NETWORK.model_dump() | config)
    with pytest.raises(UserError, match=said):
        task_of(split[0]).train(network, RECIPE.model_copy(update=recipe), split[0], [0])


def test_the_command_trains_tests_and_records(split, tmp_path, wavemix):
    config, recipe = NETWORK.model_dump_json(exclude_defaults=True), RECIPE.model_dump_json(exclude_defaults=True)
    options = "--task", "segmentation", "--epochs", 1, "--target", "0.1", "--results", tmp_path
    said = wavemix("train", split[0].name, "--config", config, "--recipe", recipe, *options).out
    assert "mIoU" in said and "pixel accuracy" in said and "--task segmentation" in said
    (record,) = read(tmp_path / "train.jsonl")
    assert record.config.task == "segmentation" and set(record.beside) > {"pixel accuracy", "IoU 2"}
    assert record.dataset.reading.task == "segmentation" and record.dataset.test_count == 3
    table = (tmp_path / "tables" / "segmentation.md").read_text()
    assert "mIoU" in table and "IoU 3" in table and record.config.name in table
    refused = wavemix("train", split[0].name, "--config", config, *options[2:], "--target", "2", code=2)
    assert "--target is a fraction" in refused.err


def test_bad_input_on_the_command_line_is_one_line(split, wavemix):
    for arguments, said in (
        (("--task", "detection", "--target", "0.5"), "--task is classification, segmentation or super-resolution"),
        (("--task", "super-resolution", "--target", "30dB"), "--scale 2, 3 or 4 goes with"),
        (("--task", "segmentation", "--scale", "2", "--target", "0.5"), "--scale 2, 3 or 4 goes with"),
        (("--task", "segmentation", "--target", "30dB"), "--target is a fraction between 0 and 1, not 30dB"),
        (("--task", "super-resolution", "--scale", "2", "--target", "x"), "--target is a PSNR in dB such as 36.66dB"),
        (("--task", "segmentation", "--target", "0.5", "--recipe", '{"patch": 64}'), "patches of 64 pixels"),
    ):
        error = wavemix("search", split[0].name, *arguments, "--results", "/nowhere/runs", code=2).err
        assert said in error and error.count("\n") == 1, error
