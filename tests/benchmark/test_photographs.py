"""Super-resolution: the pairs that networks are trained on, how they are judged, and a row from files to its record."""

from pathlib import Path
from typing import Any

import layouts_on_disk as disk
import numpy as np
import pytest
import torch
import torchvision_operators
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from search.benchmark.examples import Stored
from search.benchmark.layouts import LAYOUTS
from search.benchmark.photographs import Enlarging, Photographs
from search.benchmark.processes import Processes
from search.benchmark.recipe import Recipe, recipe_of
from search.benchmark.rows import Network, Row, rows
from search.benchmark.runs import Order, evaluate, run
from search.benchmark.setup import Setup
from search.benchmark.tasks import SuperResolution
from search.errors import UserError
from search.metrics.super_resolution import cropped, luma, psnr_and_ssim, rounded
from search.records.benchmarks import RowRun
from search.records.results import Results
from wavemix.config import LiteConfig

torchvision_operators.define()
SMALL = LiteConfig.model_validate(
    {"in_channels": 1, "final_dim": 8, "depth": 1, "mult": 1, "head": {"task": "super-resolution", "scale": 2}}
)


def recipe(**changes: Any) -> Recipe:
    plain = {"batch": 2, "size": [8, 8], "phases": [{"optimizer": "adamw", "lr": 0.001, "epochs": 2}]}
    return recipe_of("ours-super-resolution", plain | changes)


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=generator)


@settings(max_examples=25)
@given(
    scale=st.sampled_from([2, 3, 4]),
    sides=st.tuples(st.integers(40, 60), st.integers(40, 60)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_a_patch_is_cut_from_the_whole_images_pair(scale: int, sides: tuple[int, int], channels: int, seed: int):
    """Although only what is around it is made small."""
    data = Stored([picture(*sides)], [torch.zeros(())])
    plain = recipe(flip=False, turns=False)
    low, high = Enlarging(data, plain, channels, scale, "all")[0, seed]
    all_low, all_high = Enlarging(data, plain, channels, scale)[0]
    assert low.shape == (channels, 8, 8) and high.shape == (channels, 8 * scale, 8 * scale)
    rows, columns = (side - 7 for side in all_low.shape[-2:])
    places = [
        (top, left)
        for top in range(rows)
        for left in range(columns)
        if torch.equal(all_high[:, scale * top : scale * (top + 8), scale * left : scale * (left + 8)], high)
    ]
    assert any(torch.allclose(all_low[:, t : t + 8, c : c + 8], low, atol=1e-4) for t, c in places)


def test_flips_and_turns_keep_pairs_together():
    data = Stored([picture(16, 16)], [torch.zeros(())])
    view, seen = Enlarging(data, recipe(), 3, 2, "all"), set()
    low, high = Enlarging(data, recipe(), 3, 2)[0]
    for seed in range(60):
        small, large = view[0, seed]
        same = [
            (flip, times)
            for flip in (False, True)
            for times in range(4)
            if torch.equal((high.flip(-1) if flip else high).rot90(times, (-2, -1)), large)
        ]
        assert len(same) == 1
        flip, times = same[0]
        assert torch.allclose((low.flip(-1) if flip else low).rot90(times, (-2, -1)), small, atol=1.0)
        seen.add(same[0])
    assert len(seen) == 8
    flipped = Enlarging(data, recipe(), 3, 2, "flips")  # the last phase of a recipe: no turns
    assert all(any(torch.equal(flipped[0, s][1], h) for h in (high, high.flip(-1))) for s in range(10))


def test_grey_is_the_same_in_each_channel():
    grey = picture(20, 24, 1)
    one, three = (
        Enlarging(Stored([image], [torch.zeros(())]), recipe(), 1, 2)[0] for image in (grey, grey.expand(3, -1, -1))
    )
    assert torch.equal(one[0], three[0]) and torch.equal(one[1], three[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_the_fields(channels: int):
    task = SuperResolution(recipe(), 2)
    found, true = picture(24, 30), picture(30, 24).permute(0, 2, 1)
    known = [psnr_and_ssim(f, t, 2) for f, t in ((found, true), (true, true))]
    if channels == 1:
        pairs = [(rounded(luma(f))[None], rounded(luma(t))[None]) for f, t in ((found, true), (true, true))]
    else:
        pairs = [(found, true), (true, true)]
    counts = [task.counts(f[None].double() / 255, t[None]) for f, t in pairs]
    one = task.scores(counts[0])
    assert one["PSNR"] == pytest.approx(known[0][0], abs=0.02) and one["SSIM"] == pytest.approx(known[0][1], abs=2e-3)
    both = task.scores(sum(counts[1:], counts[0]))
    assert both["PSNR"] == pytest.approx((one["PSNR"] + 100) / 2, abs=1e-5)  # of equal images: 100
    nothing = task.counts(torch.rand(1, channels, 4, 4), torch.zeros(1, channels, 0, 0, dtype=torch.uint8))
    assert nothing.tolist() == [0, 0, 0]  # what fills up a process's share


def row(**changes: Any) -> Row:
    fields = {"name": "small", "task": "super-resolution", "label": "Set5, 2x", "layout": "train400-set5"}
    return Row(network=Network(lite=SMALL), recipes={"ours": recipe(**changes)}, **fields)


def trained(folder: Path, processes: Processes, **changes: Any) -> RowRun:
    parts = LAYOUTS["train400-set5"].open(folder)
    order = Order(row(**changes), "ours")
    return run(order, parts, processes, Results(folder / "runs"), lambda seen: None, lambda text: None)


def test_a_row_is_trained_and_judged_on_all_test_sets(tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    processes = Processes(Setup(cpu=True))
    record = trained(tmp_path, processes)
    assert record.metric == "PSNR" and 5 < record.score < 60 and record.data.test_count == 3
    assert set(record.beside) == {
        "SSIM",
        *(f"{what} {name}" for what in ("PSNR", "SSIM") for name in ("Set14", "BSD100")),
    }
    (weights,) = (tmp_path / "runs" / "weights" / "benchmark").iterdir()
    parts = LAYOUTS["train400-set5"].open(tmp_path)
    assert evaluate(row(), weights, parts, processes) == {"PSNR": record.score, **record.beside}


def test_a_network_begins_with_the_bicubic_enlargement(tmp_path: Path):
    from wavemix.heads import bicubic

    network, images = row().network.build().eval(), torch.rand(1, 1, 9, 12)
    assert torch.equal(network(images), bicubic(images, 2))


def test_whole_images_one_by_one_with_patience(tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    disk.picture(tmp_path / "sr" / "Train400" / "odd.png", 9, (45, 41))
    phases = [{"optimizer": "adamw", "lr": 0.001, "epochs": 3, "patience": 1}]
    whole = {"batch": 1, "fit": "as-is", "size": None, "loss": "squares", "phases": phases}
    record = trained(tmp_path, Processes(Setup(cpu=True)), **whole)
    assert (record.data.train_count, record.data.validation_count) == (3, 1)
    assert all(epoch.score is not None for epoch in record.curve)


@pytest.mark.parametrize(
    ("folder", "size", "changes", "said"),
    [
        ("Train400", (70, 15), {}, "small.png is 70 x 15 pixels: at least 16 x 16 are needed"),
        ("Set5", (14, 70), {}, "small.png is 14 x 70 pixels: at least 15 x 15 are needed"),
        ("Set14", (70, 14), {}, "small.png is 70 x 14 pixels: at least 15 x 15 are needed"),
        (
            "Train400",
            (70, 40),
            {"fit": "as-is", "size": None},
            "images have several sizes: the recipe has to",
        ),
    ],
)
def test_sizes_are_checked_before_anything_is_trained(
    tmp_path: Path, folder: str, size: tuple[int, int], changes: dict, said: str
):
    disk.photographs(tmp_path / "sr")
    disk.picture(tmp_path / "sr" / folder / "small.png", 9, size)
    with pytest.raises(UserError, match=said):
        trained(tmp_path, Processes(Setup(cpu=True)), **changes)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_is_no_photograph_is_named(tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "sr" / "Train400" / "0000.png")
    with pytest.raises(UserError, match="image 0 can't be used: 0000.png: it has 16 bits a channel"):
        trained(tmp_path, Processes(Setup(cpu=True)))
    (tmp_path / "sr" / "Train400" / "0001.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="0001.png: unreadable image"):
        trained(tmp_path, Processes(Setup(cpu=True)))


def test_published_networks_take_what_their_rows_give_them(tmp_path: Path):
    disk.photographs(tmp_path / "sr")
    for found in rows().values():
        if found.task == "super-resolution" and found.network.name:
            network, channels = found.network.build().eval(), found.network.channels
            low, high = Enlarging(Photographs(tmp_path / "sr" / "BSD100"), found.recipe("ours"), channels, 2)[0]
            with torch.no_grad():
                out = network(low[None] / 255)[0]
            assert out.shape == high.shape == (channels, 60, 70), found.name
            assert cropped(picture(61, 70), 2).shape[-2:] == high.shape[-2:]
