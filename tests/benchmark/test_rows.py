"""Rows and recipes as data."""

from pathlib import Path

import pytest

from search.benchmark.recipe import recipe_of
from search.benchmark.rows import Network, read, row, rows
from search.errors import UserError
from search.published.figures import figures
from search.report.benchmark import STATED


def test_every_row_is_read():
    assert len(rows()) > 30
    assert all({"ours", "upstream"} <= set(found.recipes) for found in rows().values())


def test_every_figure_has_a_row():
    had = {found.published.figure() for found in rows().values() if found.published}
    # duplicates of another row's data and network, or of none: see their notes
    left = [f for f in figures() if f not in had and f.note != "withdrawn"]
    without = {(figure.data, figure.value) for figure in left}
    assert without == {
        ("ImageNet-1k", 75.06), ("CIFAR-10", 95.98), ("CIFAR-10", 97.29), ("CIFAR-10", 91.08), ("CIFAR-100", 85.09),
        ("CIFAR-100", 70.2),
        ("Tiny ImageNet", 52.03), ("EMNIST Letters", 95.78), ("MNIST", 99.0), ("Fashion-MNIST", 90.0),
    }  # fmt: skip


def test_a_row_has_the_network_that_was_published():
    from search.upstream import closed_form

    for found in rows().values():
        figure = found.published.figure() if found.published else None
        if figure is None or figure.audit is None or found.task == "segmentation":  # other numbers of classes
            continue
        stated = STATED[figure.audit]
        count = stated.parameters if hasattr(stated, "parameters") else closed_form(stated)
        assert found.network.parameters() == count, found.name


def test_a_network_has_the_parameters_of_its_closed_form():
    for name in ("camvid", "cifar10-jpeg-lite-32-7", "cifar10-144-7"):
        network = rows()[name].network
        assert sum(p.numel() for p in network.build().parameters()) == network.parameters()


def test_a_recipe_changes_another_one():
    plain, changed = recipe_of("upstream", {}), recipe_of("upstream", {"batch": 8})
    assert changed == plain.model_copy(update={"batch": 8}) and plain.judged
    assert [phase.epochs for phase in plain.limited(3).phases] == [3, 3] and plain.most_epochs == 2000
    with pytest.raises(ValueError, match="there is no recipe 'mine', only dualopt, ours"):
        recipe_of("mine", {})


GOOD = """
task = "classification"
label = "mine"
layout = "mnist"
network = { lite = { in_channels = 1, final_dim = 8 } }
[recipes]
ours = { like = "ours" }
"""


def test_a_row_of_ones_own(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert row(str(path)).name == "mine" and row(str(path)).network.classes == 10


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('layout = "mnist"', 'layout = "minst"', "layout: there is no 'minst'"),
        ('layout = "mnist"', 'layout = "camvid"', "camvid is for segmentation"),
        ('task = "classification"', 'task = "regression"', "task"),
        ('{ like = "ours" }', '{ like = "ours", batch = 0 }', "recipes.ours.batch"),
        ('{ like = "ours" }', '{ like = "ours", size = [8, 8] }', "fit as-is goes without a size"),
        ("{ lite = { in_channels = 1, final_dim = 8 } }", '{ name = "wavemix_1" }', "there is no network 'wavemix_1'"),
        ("final_dim = 8", "final_dim = 7", "network.lite.final_dim"),
        ('{ like = "ours" }', '{ like = "ours", loss = "focal" }', "the focal loss goes without label smoothing"),
        (
            '{ like = "ours" }',
            '{ like = "ours", loss = "lovasz" }',
            "has the loss lovasz, and classification has",
        ),
        ('{ like = "ours" }', '{ like = "ours", turns = true }', "turns images, which is for super-resolution"),
        (
            "final_dim = 8 }",
            'final_dim = 8, head = { task = "super-resolution", scale = 2 } }',
            "is none for classific",
        ),
        ('label = "mine"', 'label = "mine', "mine.toml: "),
        ("[recipes]", 'published = { task = "a", data = "b", source = "c" }\n[recipes]', "0 published figures"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path: Path, old: str, new: str, said: str):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match=said) as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_an_unknown_row():
    with pytest.raises(UserError, match="`wavemix benchmark list` names all"):
        row("mnits")
    with pytest.raises(ValueError, match="has a name, with arguments, or is lite"):
        Network()
