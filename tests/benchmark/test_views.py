"""What networks see: the same images, with the same chance, for any number of processes."""

import pytest
import torch
import torchvision_operators
from hypothesis import given
from hypothesis import strategies as st
from toy_rows import parts, recipe

from search.benchmark.examples import Stored
from search.benchmark.recipe import Recipe
from search.benchmark.setup import Share
from search.benchmark.views import NOBODY, Draws, View, collated, in_order, loader, measured, mixed, seed_of, whole
from search.data.split import IGNORED
from search.errors import UserError

torchvision_operators.define()


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 40), st.integers(0, 3))
def test_processes_divide_a_step_among_them(world: int, parts: int, width: int, more: int, start: int):
    batch = world * parts * width
    count, seed = batch + more, (7, 0, 3)
    alone = list(Draws(count, batch, seed, Share(), start))
    shares = [list(Draws(count, batch, seed, Share(rank, world, parts), start)) for rank in range(world)]
    assert len(alone) == len(Draws(count, batch, seed, Share(), start))
    for step, whole_step in enumerate(alone):
        pieces = [shares[rank][step * parts + part] for part in range(parts) for rank in range(world)]
        assert [draw for piece in pieces for draw in piece] == whole_step
    drawn = [number for step in alone for number, _ in step]
    assert len(set(drawn)) == len(drawn)  # no image twice in an epoch
    assert len({seed for step in alone for _, seed in step}) == len(drawn)


def test_epochs_and_phases_differ():
    orders = {
        tuple(Draws(32, 8, (0, phase, epoch), Share()).__iter__().__next__()) for phase in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


@given(st.integers(1, 50), st.integers(1, 7), st.integers(1, 4))
def test_a_test_sees_every_image_once_in_equal_batches(count: int, batch: int, world: int):
    shares = [in_order(count, batch, Share(rank, world)) for rank in range(world)]
    assert len({tuple(map(len, share)) for share in shares}) == 1
    seen = [number for share in shares for piece in share for number in piece if number != NOBODY]
    assert sorted(seen) == list(range(count))


def test_chance_follows_from_the_seed_and_leaves_no_trace():
    view = View(parts().train, recipe(), 1, False, "all")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = view[3, 11][0], view[3, 11][0], view[3, 12][0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_phase_only_flips():
    data = parts().train
    view = View(data, recipe(), 1, False, "flips")
    image = data[5][0]
    seen = [view[5, seed][0] for seed in range(20)]
    assert all(torch.equal(each, image) or torch.equal(each, image.flip(2)) for each in seen)
    assert any(torch.equal(each, image.flip(2)) for each in seen)


def test_pairs_are_mixed_the_same_in_parts():
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    whole_batch, shares = mixed(images, labels, recipe(), 4, 100)
    halves = [mixed(images[n : n + 4], labels[n : n + 4], recipe(), 4, 100 + n // 2) for n in (0, 4)]
    assert torch.equal(whole_batch, torch.cat([half[0] for half in halves]))
    assert torch.allclose(shares.sum(1), torch.ones(8)) and shares.shape == (8, 4)
    assert (shares[0].nonzero().flatten() <= 1).all()  # only the neighbour's label joins


@pytest.mark.parametrize(
    ("fields", "training", "shape"),
    [
        ({"fit": "stretch", "size": [10, 12]}, None, (10, 12)),
        ({"fit": "stretch", "size": [10, 12]}, "flips", (10, 12)),
        ({"fit": "resized-crop", "size": [6, 6]}, "all", (6, 6)),
        ({"fit": "resized-crop", "size": [6, 6]}, None, (6, 6)),
        ({"fit": "pad-crop", "size": [8, 8], "padding": 2}, "all", (8, 8)),
        ({"auto": "rand"}, "all", (8, 8)),
    ],
)
def test_images_have_the_size_that_the_recipe_says(fields: dict, training: str | None, shape: tuple[int, int]):
    image, _ = View(parts().train, Recipe(batch=1, phases=recipe().phases, **fields), 3, False, training)[0, 5]
    assert image.shape == (3, *shape) and image.dtype == torch.uint8


def test_masks_go_with_their_images():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[:, 4:9, 6:20] = 255
    mask = (image[0] > 0).byte()
    fields = {"fit": "crop", "size": [16, 40], "scale": 0.3, "flip": True, "colour": 0.0}
    view = View(Stored([image], [mask]), Recipe(batch=1, phases=recipe().phases, **fields), 3, True, "all")
    for seed in range(10):
        seen, labels = view[0, seed]
        assert seen.shape[1:] == labels.shape == (16, 40) and (labels == IGNORED).any()  # wider than the image
        clear = (labels != IGNORED) & ((seen[0] == 0) | (seen[0] == 255))  # edges are blurred where it is scaled
        assert ((seen[0] == 255) == (labels == 1))[clear].float().mean() > 0.98


def test_normalisation_is_measured():
    data = Stored(torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8), torch.zeros(50).long())
    mean, deviation = measured(View(data, Recipe(batch=1, phases=recipe().phases), 3, False), 0)
    values = data.images.double() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert deviation == pytest.approx(values.std((0, 2, 3), unbiased=False).tolist())


def test_what_cannot_be_read_is_said_by_the_process_that_trains():
    class Broken(Stored):
        def __getitem__(self, number: int):
            raise OSError("truncated\nfile")

    view = View(Broken(torch.zeros(4, 1, 8, 8).byte(), torch.zeros(4).long()), recipe(), 1, False)
    for workers in (0, 1):
        with pytest.raises(UserError, match="^image 0 can't be used: truncated file$"):
            [whole(batch) for batch in loader(view, [[0, 1]], workers)]
    assert "several sizes" in collated([(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 5, 4), 0)])


def test_seeds_differ():
    assert len({seed_of(a, b) for a in range(20) for b in range(20)}) == 400
