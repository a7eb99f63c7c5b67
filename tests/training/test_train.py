"""Training on a small made-up data set: it learns, repeats, resumes, stops, and refuses what it cannot use."""

import dataclasses
import json

import pytest
import torch
from bars import CONFIG, bars
from safetensors.torch import save_file

from search.data.split import Split
from search.errors import UserError
from search.training.augment import affine, cut, mixed, moves
from search.training.default_recipe import default_recipe
from search.training.evaluate import RECALIBRATION, evaluate, recalibrate
from search.training.images import Images, reduced
from search.training.optimizer import Optimizer, orthogonal
from search.training.recipe import Recipe
from search.training.tensors import read, write
from search.training.train import schedule, train
from wavemix import WaveMixLite, kernels
from wavemix.kernels import LANES
from wavemix.stack import Stack

RECIPE = Recipe(epochs=4, batch_size=32, lr=0.02, optimizer="muon", weight_decay=0.05)


DATA, HELD_OUT = bars(512), bars(128, 1)


def doubled(data: Split) -> Split:
    """At 16x16, which has a reduced size that fits CONFIG."""
    return dataclasses.replace(data, images=data.images.repeat_interleave(2, 2).repeat_interleave(2, 3))


def weights(trained) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in trained.state.values()])


def test_learns_and_the_exported_network_agrees():
    trained = train(CONFIG, RECIPE.model_copy(update={"epochs": 12}), DATA, [0, 1], validation=HELD_OUT)
    assert min(t.accuracy for t in trained) > 0.9
    assert [e.epoch for e in trained[0].curve] == list(range(1, 13))
    states = [t.state for t in trained]
    assert evaluate(CONFIG, states, DATA, HELD_OUT) == pytest.approx([t.accuracy for t in trained])
    network = WaveMixLite(CONFIG).eval()
    network.load_state_dict(states[0])
    images = Images(DATA, torch.device("cpu"))
    x = (HELD_OUT.images.float() / 255 - images.mean[:, None, None]) / images.deviation[:, None, None]
    accuracy = (network(x).argmax(1) == HELD_OUT.labels).float().mean().item()
    assert accuracy == pytest.approx(trained[0].accuracy, abs=1e-6)


def test_images_sorted_by_class_are_normalised_as_shuffled_ones():
    """Folders of classes come sorted: a sample of the first images would be of one class."""
    count = 3 * RECALIBRATION
    labels = torch.arange(count) * 4 // count
    images = (40 * labels[:, None, None, None] + torch.randint(0, 60, (count, 1, 8, 8))).byte()
    split, order = Split("s", "S", "train", images, labels, ("a", "b", "c", "d"), "folder"), torch.randperm(count)
    shuffled = dataclasses.replace(split, images=images[order], labels=labels[order])
    ordered, mixed = (Images(s, torch.device("cpu")) for s in (split, shuffled))
    assert ordered.mean.item() == pytest.approx(mixed.mean.item(), abs=0.02)
    assert ordered.deviation.item() == pytest.approx(mixed.deviation.item(), rel=0.05)
    stack = Stack(CONFIG, [0])
    again = recalibrate(stack, stack.flat, mixed)
    for name, (mean, variance) in recalibrate(stack, stack.flat, ordered).items():
        assert ((mean - again[name][0]).abs() < 0.1 * variance.sqrt()).all()
        torch.testing.assert_close(variance, again[name][1], atol=0, rtol=0.2)


def test_accuracy_is_the_exact_fraction():
    (trained,) = train(CONFIG, RECIPE, DATA, [0], validation=HELD_OUT)
    right = round(trained.accuracy * len(HELD_OUT))
    assert trained.accuracy == right / len(HELD_OUT), "not what float32 makes of it"


@pytest.mark.parametrize("compiled", [True, False])
def test_deterministic_and_independent_of_neighbours(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(kernels, "library", lambda: None)
    recipe = RECIPE.model_copy(update={"epochs": 1, "shift": 1.0, "rotate": 5.0, "flip": True})
    first, again = train(CONFIG, recipe, DATA, [5]), train(CONFIG, recipe, DATA, [5])
    assert torch.equal(weights(first[0]), weights(again[0]))
    both = train(CONFIG, recipe, DATA, [4, 5])
    torch.testing.assert_close(weights(both[1]), weights(first[0]), atol=1e-3, rtol=1e-3)
    assert not torch.equal(weights(both[0]), weights(both[1]))


def test_dropout_follows_from_the_seeds_and_nothing_outside_changes():
    config = CONFIG.model_copy(update={"dropout": 0.3})
    state = torch.get_rng_state()
    first = train(config, RECIPE, DATA, [5])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(weights(first[0]), weights(train(config, RECIPE, DATA, [5])[0]))


def test_resumes_as_if_nothing_had_happened(tmp_path, monkeypatch):
    whole = train(CONFIG, RECIPE, DATA, [0, 1], validation=HELD_OUT)
    path = tmp_path / "checkpoint"
    monkeypatch.setattr("search.training.course.CHECKPOINT_SECONDS", 0.0)

    def interrupt(epoch, latest):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, RECIPE, DATA, [0, 1], validation=HELD_OUT, on_epoch=interrupt, checkpoint=path)
    seen = []
    resumed = train(
        CONFIG, RECIPE, DATA, [0, 1], validation=HELD_OUT, checkpoint=path, on_epoch=lambda e, _: seen.append(e)
    )
    assert seen == [4], "epoch 3 had been saved before it was reported"
    for a, b in zip(whole, resumed):
        assert torch.equal(weights(a), weights(b))
        assert [e.accuracy for e in a.curve] == [e.accuracy for e in b.curve]


def test_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    train(CONFIG, RECIPE, DATA, [0], checkpoint=path)
    (tmp_path / "other").write_text("")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode, "others may go on from it where files are theirs"
    with pytest.raises(UserError, match="another training"):
        train(CONFIG, RECIPE, DATA, [1], checkpoint=path)


def test_damaged_checkpoint_is_set_aside_and_its_training_starts_over(tmp_path, caplog):
    path, epochs = tmp_path / "checkpoint", []
    whole = train(CONFIG, RECIPE, DATA, [0], checkpoint=path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1  # a weight: nothing but the digest can notice
    path.write_bytes(content)
    again = train(CONFIG, RECIPE, DATA, [0], checkpoint=path, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3, 4] and torch.equal(weights(again[0]), weights(whole[0]))
    assert (tmp_path / "checkpoint.damaged").read_bytes() == content
    (line,) = caplog.messages
    assert line == (
        f"{path} is a damaged checkpoint (its digest does not fit), so its training starts over; "
        "moved to checkpoint.damaged"
    )
    epochs.clear()
    train(CONFIG, RECIPE, DATA, [0], checkpoint=path, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [], "what was written since is whole"
    header, tensors = read(path)
    save_file(tensors, path, header)
    train(CONFIG, RECIPE, DATA, [0], checkpoint=path)
    assert "its digest is missing" in caplog.messages[1]


def test_checkpoint_from_before_a_hyperparameter_goes_on(tmp_path):
    path, epochs = tmp_path / "checkpoint", []
    train(CONFIG, RECIPE, DATA, [0], checkpoint=path)
    header, tensors = read(path)
    identity = json.loads(header["identity"])
    del identity["recipe"]["mixup"], identity["config"]["wavelet"]
    write(path, tensors, header | {"identity": json.dumps(identity)})
    train(CONFIG, RECIPE, DATA, [0], checkpoint=path, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [], "all of them had been trained"


def test_stops_when_asked_and_on_nan():
    stopped = train(CONFIG, RECIPE, DATA, [0], on_epoch=lambda epoch, _: epoch == 2)
    assert stopped[0].stopped == "pruned" and len(stopped[0].curve) == 2
    diverged = train(CONFIG, RECIPE.model_copy(update={"lr": 1e30, "optimizer": "adamw"}), DATA, [0])
    assert diverged[0].stopped.startswith("nan: the loss of seed 0")


def test_data_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="change the configuration"):
        train(CONFIG, RECIPE, bars(64, channels=3), [0])
    few = dataclasses.replace(DATA, images=DATA.images[:10], labels=DATA.labels[:10])
    with pytest.raises(UserError, match="at least 16"):
        train(CONFIG, RECIPE, few, [0])
    with pytest.raises(UserError, match="does not fit .*divisible"):
        train(CONFIG.model_copy(update={"level": 4, "stride": (2, 1)}), RECIPE, DATA, [0])


@pytest.mark.parametrize("outside", ["black", "border"])
def test_batch_kernel_equals_plain(monkeypatch, outside):
    recipe = RECIPE.model_copy(update={"shift": 2.0, "rotate": 20.0, "scale": 0.2, "shear": 0.1, "flip": True})
    images = Images(bars(64, channels=3), torch.device("cpu"))
    index = torch.randint(0, 64, (2, 32))
    move = torch.stack([moves(recipe, index[m], 0, m, torch.Generator().manual_seed(m)) for m in (0, 1)])
    fast, plain_copy = images.batch(index, move, outside), images.batch(index)
    monkeypatch.setattr(kernels, "library", lambda: None)
    torch.testing.assert_close(fast, images.batch(index, move, outside), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(plain_copy, images.batch(index))


def test_flip_alternates_and_identity_moves_nothing():
    recipe = RECIPE.model_copy(update={"flip": True})
    order, other = torch.randperm(50), torch.randperm(50)  # 50 images, seen in two orders
    even, odd = (moves(recipe, o, e, 3, torch.Generator().manual_seed(e)) for e, o in ((0, order), (1, other)))
    assert torch.equal(even[order.argsort(), 4], -odd[other.argsort(), 4])
    assert set(even[:, 4].tolist()) == {1.0, -1.0}
    assert moves(RECIPE, order, 0, 3, torch.Generator()) is None
    x = torch.rand(2, 1, 6, 8)
    identity = torch.tensor([[1.0, 0, 0, 0, 1, 0]]).expand(2, -1)
    torch.testing.assert_close(affine(x, identity), x, atol=1e-5, rtol=1e-5)
    shifted = affine(x, torch.tensor([[1.0, 0, 1, 0, 1, 0]]).expand(2, -1))  # output pixel y shows input pixel y + 1
    torch.testing.assert_close(shifted[:, :, :-1], x[:, :, 1:], atol=1e-5, rtol=1e-5)
    assert shifted[:, :, -1].abs().max() < 1e-5
    down = torch.tensor([[1.0, 0, 1, 0, 1, 0]]).expand(2, -1)
    torch.testing.assert_close(affine(x, down, "border")[:, :, -1], x[:, :, -1], atol=1e-5, rtol=1e-5)


def test_orthogonal_and_schedule():
    x = orthogonal(torch.randn(3, 8, 20)) / (0.2 * 20**0.5)
    values = torch.linalg.svdvals(x)
    assert 0.6 < values.min() and values.max() < 1.3
    assert schedule(0.0, 0.1) == 0 and schedule(0.1, 0.1) == 1 and schedule(1.0, 0.1) == 0


def test_recipes_are_validated():
    with pytest.raises(ValueError):
        Recipe(lr=-1)
    with pytest.raises(ValueError):
        Recipe(batch_size=0)
    with pytest.raises(UserError, match="batch_size is 20: classification takes multiples of 16"):
        train(CONFIG, Recipe(batch_size=20), bars(64), [0])
    assert default_recipe("mnist", 28, 5).epochs == 5
    small, large = (default_recipe("cifar10", 32, parameters=count) for count in (37058, 520106))
    assert (small.lr, small.cutout, small.shift) == (0.03, 0, 2.0)
    assert (large.lr, large.cutout, large.shift) == (0.01, 8, 3.0)


def test_cosine_schedule_and_nesterov():
    assert schedule(0.05, 0.1, "cosine") == pytest.approx(0.5) and schedule(0.55, 0.1, "cosine") == pytest.approx(0.5)
    stack = Stack(CONFIG, [0])
    module = torch.nn.Parameter(stack.flat.detach().clone())
    ours = Optimizer(stack, Recipe(optimizer="sgd", beta1=0.9))
    theirs = torch.optim.SGD([module], lr=0.01, momentum=0.9, nesterov=True)
    for step in range(5):
        gradient = torch.randn(stack.flat.shape, generator=torch.Generator().manual_seed(step))
        module.grad = gradient.clone()
        ours.step(gradient, *ours.factors(0.1))  # averages of gradients: lr / (1 - beta1)
        theirs.step()
    torch.testing.assert_close(stack.flat, module)


def test_progressive_resolution_and_scaled_branches():
    small = reduced(DATA, CONFIG)
    assert small.images.shape[2:] == (8, 8)  # nothing smaller than 8 pixels
    wide, held_out = (
        dataclasses.replace(part, images=part.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
        for part in (DATA, HELD_OUT)
    )
    assert reduced(wide, CONFIG).images.shape[2:] == (10, 10)
    recipe = RECIPE.model_copy(update={"epochs": 10, "progressive": 0.5, "branch": 0.5})
    [trained] = train(CONFIG, recipe, wide, [0], validation=held_out)
    assert trained.accuracy > 0.6
    key = "layers.0.feedforward.5.weight"
    one, half = (
        train(CONFIG, RECIPE.model_copy(update={"epochs": 1, "lr": 1e-9, "branch": scale}), DATA, [0])[0].state[key]
        for scale in (1.0, 0.5)
    )
    torch.testing.assert_close(one / 2, half)


def test_cutout():
    x = torch.ones(1, 2, 3, 8, 12, LANES)
    hole = torch.full((1, 2 * LANES, 2), 0.5)
    hole[0, 1] = torch.tensor([0.0, 1.0])  # a corner: what lies outside is lost
    y = cut(x, hole, 4)
    assert (y[0, 0, 0, :, :, 0] == 0).sum() == 16 and (y[0, 0, :, 2:6, 4:8, 0] == 0).all()
    assert (y[0, 0, 0, :, :, 1] == 0).sum() == 4 and (y[0, 0, :, :2, 10:, 1] == 0).all()
    data = doubled(DATA)
    images = Images(data, torch.device("cpu"))
    assert images.scale == 1 and Images(reduced(data, CONFIG), torch.device("cpu"), like=images).scale == 10 / 16
    plain, holed = (
        train(CONFIG, RECIPE.model_copy(update={"epochs": 2, "cutout": edge}), DATA, [0])[0].curve for edge in (0, 6)
    )
    assert holed[-1].train_loss > plain[-1].train_loss


def test_mixup():
    x, share = torch.randn(2, 2, 3, 8, 8, LANES), torch.zeros(2, 2 * LANES)
    share[1, 3] = 0.25
    y, (at, other) = mixed(x, share), ((1, 0, ..., 3), (1, 1, ..., LANES - 4))  # the fourth and the last but three
    torch.testing.assert_close(y[at], 0.75 * x[at] + 0.25 * x[other])
    y[at] = x[at]
    torch.testing.assert_close(y, x)
    none, little, much = (
        train(CONFIG, RECIPE.model_copy(update={"epochs": 2, "mixup": most}), DATA, [0])[0].curve[-1].train_loss
        for most in (0, 1e-6, 0.5)
    )
    assert little == pytest.approx(none, abs=1e-3) and much > none + 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_processor_learns(tmp_path):
    recipe = RECIPE.model_copy(update={"epochs": 12, "shift": 0.5, "cutout": 2, "mixup": 0.1, "progressive": 0.25})
    data, held_out = doubled(DATA), doubled(HELD_OUT)
    for config in (CONFIG, CONFIG.model_copy(update={"upsampling": "deconv"})):  # halved blocks, modules
        for trained in train(config, recipe, data, [0, 1], validation=held_out, device="cuda"):
            here = train(config, recipe, data, [trained.seed], validation=held_out)[0]
            assert trained.accuracy == pytest.approx(here.accuracy, abs=0.05)
            assert evaluate(config, [trained.state], data, held_out)[0] == pytest.approx(trained.accuracy, abs=0.02)
