import math
import os
import re
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import processes
import pytest
from campaigns import DATA, START, campaign, configuration, confirmation, trial
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from search import text as safe
from search.errors import UserError
from search.records.jsonl import append
from search.records.models import Point
from search.report import frontier, importance, plot_marks, plots
from search.tasks.score import ACCURACY
from search.training.recipe import Recipe

ROOT = Path(__file__).parents[2]


def axes_of(figure):
    return figure.axes[0]


def texts(figure) -> str:
    figure.draw_without_rendering()
    found = [t.get_text() for t in figure.findobj(matplotlib.text.Text)]
    return "\n".join(found)


# ------------------------------------------------------------------------------------------------------ frontier


def test_frontier_shows_trials_confirmations_targets_and_published_counts():
    figure = plots.frontier(campaign())
    axes, said = axes_of(figure), texts(figure)
    assert axes.get_xscale() == "log"
    assert "target 99 %" in said and "3,566" in said
    assert all(f"test: {word}" in said for word in ("confirmed", "reached", "missed"))
    fills = {bars.lines[0].get_fillstyle() for bars in axes.containers}
    assert fills == {"full", "left"}, "what is only reached is half filled"
    stars = [line for line in axes.lines if line.get_marker() == "*"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in stars] == [(3566, 0.99)]
    points = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) > 1]
    complete = [r for r in campaign() if r.kind == "trial" and r.state == "complete"]
    assert sorted(points[0].get_ydata()) == sorted(r.accuracy_validation for r in complete)


def test_interval_bars_are_the_recorded_intervals():
    run = confirmation([0.985, 0.986, 0.988])
    figure = plots.frontier([run])
    ends = [segment[:, 1] for bars in axes_of(figure).containers for c in bars[2] for segment in c.get_segments()]
    assert len(ends) == 1 and ends[0] == pytest.approx(run.interval, abs=1e-9)


def test_a_test_of_more_seeds_takes_the_place_of_its_parts():
    parts = [confirmation([0.985, 0.988], created=START), confirmation([0.991], seeds=[2])]
    whole = confirmation([0.985, 0.988, 0.991], created=START + timedelta(days=2))
    elsewhere = confirmation([0.97, 0.975], target=0.97)  # another threshold's own
    figure = plots.frontier([whole, *parts, elsewhere])
    means = [bars.lines[0].get_ydata()[0] for bars in axes_of(figure).containers]
    assert means == [elsewhere.mean, whole.mean]


def test_a_test_without_a_target_is_drawn_as_one():
    runs = [confirmation([0.985, 0.988], target=None), trial(1, 0.98)]
    assert "test: tested" in texts(plots.frontier(runs)) and plots.anytime(runs) is None
    assert list(plots.figures(runs)) == ["frontier-mnist"]


def test_families_differ_in_colour_and_shape():
    figure = plots.frontier([trial(1, 0.98), trial(2, 0.97, family="published")])
    drawn = {(line.get_color(), line.get_marker()) for line in axes_of(figure).lines if line.get_marker() in "os"}
    assert drawn == {(plot_marks.COLOURS[f], plot_marks.MARKERS[f]) for f in ("published", "extended")}


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1)), min_size=1, max_size=30))
def test_staircase_is_the_best_so_far(points):
    steps = frontier._staircase(*zip(*points))
    assert [y for _, y in steps] == sorted(y for _, y in steps)
    for x, _ in points:
        best = max(value for count, value in points if count <= x)
        assert [y for count, y in steps if count <= x][-1] == best
    assert steps[-1] == (max(x for x, _ in points), max(y for _, y in points))


def test_no_picture_of_nothing():
    refused, pruned = trial(1, None, "refused"), trial(2, 0.9, "pruned", 2)
    failed = confirmation([], state="failed", seeds=[1])
    assert plots.frontier([refused, pruned, failed]) is None
    assert plots.anytime([refused, trial(2, 0.5)]) is None
    assert plots.importance([trial(n, 0.9) for n in range(30)]) is None
    assert plots.curves([refused, failed]) is None
    assert plots.figures([]) == {} and plots.figures([refused]) == {}


@given(st.lists(st.floats(0, 1), min_size=plots.FEWEST, max_size=8))
@settings(max_examples=examples(6))
def test_every_accuracy_lies_inside_the_picture(values):
    runs = [trial(n, value, config=configuration(depth=n + 1)) for n, value in enumerate(values)]
    runs.append(confirmation(values))  # intervals reach below 0 and above 1
    for figure in (plots.frontier(runs), plots.curves(runs)):
        figure.draw_without_rendering()
        low, high = axes_of(figure).get_ylim()
        ticks = axes_of(figure).get_yticks()
        assert low <= min(values) and min(max(values), 1 - 1e-5) <= high
        assert len(ticks) >= 2 and all(low <= tick <= high for tick in ticks)


# ------------------------------------------------------------------------------------------- anytime, importance


def test_anytime_counts_all_training_time_and_only_feasible_trials():
    enough = 0.99 + ACCURACY.margin(0.99, 5000) + 1e-6
    runs = [
        trial(0, 0.95, config=configuration(depth=1)),  # a minute, misses
        trial(1, enough, config=configuration(depth=5)),
        trial(2, 0.5, "pruned", 2, config=configuration(depth=2)),
        trial(3, 0.9901, config=configuration(depth=2)),  # over the target by less than the margin
        trial(4, enough, config=configuration(depth=3)),
        trial(5, enough, config=configuration(depth=4)),  # feasible, but larger
    ]
    line = axes_of(plots.anytime(reversed(runs))).lines[0]
    counts = [configuration(depth=d).parameters() for d in (5, 3, 3)]
    assert list(line.get_xdata()) == pytest.approx([2, 5, 6])  # minutes
    assert list(line.get_ydata()) == counts


def test_importance_finds_the_hyperparameter_that_decides_and_no_other():
    runs = []
    for n in range(48):
        activation, bias = ("gelu", "relu")[n // 4 % 2], ("all", "needed")[n // 8 % 2]
        active = n % 3 == 1  # JSON is without it where it is not, as in the first
        config = configuration(depth=1 + n % 4, activation=activation, bias=bias, stem_activation=active)
        log_error = -1 - 0.5 * math.log(config.parameters()) + (config.activation == "relu") + 0.02 * math.sin(37 * n)
        runs.append(trial(n, 1 - math.exp(log_error), config=config, recipe=Recipe(lr=0.01 * (1 + n // 16))))
    found = importance.importances(runs)
    assert list(found)[0] == "activation" and found["activation"] > 0.95
    assert {"depth", "bias", "stem_activation", "recipe: lr"} < set(found)
    assert max(v for k, v in found.items() if k != "activation") < 0.1
    assert importance.importances(runs[: importance.FEWEST - 1]) == {}
    assert "activation" in texts(plots.importance(runs))


def test_a_hyperparameter_that_older_records_lack_was_at_its_default():
    runs = [trial(n, 0.9 + 0.001 * n, config=configuration(depth=1 + n % 6)) for n in range(24)]
    plain = Recipe().model_dump(mode="json")
    older = [r.model_copy(update={"recipe": {k: v for k, v in plain.items() if k != "branch"}}) for r in runs[:12]]
    assert not any("branch" in name for name in importance.importances(older + runs[12:]))


def test_importance_of_size_alone_is_nothing():
    runs = [
        trial(n, 1 - 10 / c.parameters(), config=c)
        for n, c in enumerate(configuration(depth=1 + n % 6, final_dim=8 + 4 * (n // 6)) for n in range(24))
    ]
    assert all(value < 0.01 for value in importance.importances(runs).values())


# ------------------------------------------------------------------------------------------------------- curves


def test_pruned_curves_end_in_a_cross():
    figure = plots.curves(campaign())
    pruned = [r for r in campaign() if r.state == "pruned"]
    crosses = next(line for line in axes_of(figure).lines if line.get_marker() == "x")
    assert len(crosses.get_xdata()) == len(pruned) and set(crosses.get_xdata()) == {2}
    assert f"pruned ({len(pruned)})" in texts(figure)


def test_curve_is_the_mean_over_seeds():
    points = [[Point(epoch=1, accuracy=0.5), Point(epoch=2, accuracy=0.8)], [Point(epoch=1, accuracy=0.7)]]
    run = trial(1, 0.8, "pruned", seeds=[0, 1], curves=points)
    assert plots._curve(run).tolist() == [[1, pytest.approx(0.6)], [2, 0.8]]


# ------------------------------------------------------------------------------------------------------ writing


INLINE = "module://matplotlib_inline.backend_inline"  # what a notebook names for all that it starts


# in a process that has imported all but matplotlib and what looks at the backend
FRESH = """
import runpy, sys
assert not [name for name in sys.modules if name.startswith("matplotlib")]
for name in [name for name in sys.modules if name.startswith("search.report")]:
    del sys.modules[name]
"""
COMMAND = "from search.__main__ import main; sys.argv[1:] = ['plots', '--results', sys.argv[1]]; main()"
SCRIPT = "sys.argv[1:] = ['--help']; runpy.run_module('scripts.benchmarks.sampler', run_name='__main__')"
MODULE = "from search.report import plots; plots.write(sys.argv[1]); import matplotlib.pyplot"


@pytest.mark.parametrize(
    ("program", "backend"), [(COMMAND, INLINE), (SCRIPT, INLINE), (MODULE, INLINE), (MODULE, "nonsense"), (MODULE, "")]
)
def test_a_backend_that_is_not_installed_does_no_harm(tmp_path: Path, program, backend):
    for number in range(plots.FEWEST):  # for pictures that need no model of them
        append(tmp_path / "s.jsonl", trial(number, 0.9))
    done = processes.done(FRESH + program, tmp_path, MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots" / "curves-s.svg").exists() or program == SCRIPT


def test_a_backend_that_is_installed_stays_the_callers():
    code = "import search.report, matplotlib, os; print(matplotlib.get_backend(), os.environ['MPLBACKEND'])"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"MPLBACKEND": "svg"}, capture_output=True)
    assert done.stdout.split() == [b"svg", b"svg"]


def test_scripts_leave_the_import_of_matplotlib_to_the_report():
    for path in (ROOT / "scripts").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.MULTILINE), path


def test_written_pictures_are_whole_repeatable_and_replaced(tmp_path: Path):
    for record in campaign():
        append(tmp_path / "s.jsonl", record)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = plots.write(tmp_path)
    names = {path.name for path in written}
    stems = {"frontier-mnist", "anytime-mnist-99", "importance-mnist", "curves-s"}
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")}
    assert names == {path.name for path in (tmp_path / "plots").iterdir()}
    before = {path: path.read_bytes() for path in written}
    for path, content in before.items():
        if path.suffix == ".png":
            image = Image.open(path)
            image.load()
            assert not image.info.keys() & {"Software", "Creation Time"} and len(image.getcolors(1 << 20)) > 20
        else:
            ElementTree.fromstring(content)
            assert b"<dc:date>" not in content and b"matplotlib.org" not in content
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):  # the caller's settings change nothing
        assert plots.write(tmp_path) == written
    assert {path: path.read_bytes() for path in written} == before
    # records go, their pictures go, what is not ours stays
    (tmp_path / "s.jsonl").unlink()
    (tmp_path / "plots" / "mine.png").write_bytes(b"x")
    assert plots.write(tmp_path) == []
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.png"]


def test_no_records_no_directory(tmp_path: Path):
    assert plots.write(tmp_path) == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no results directory"):
        plots.write(tmp_path / "none")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    append(tmp_path / "s.jsonl", trial(1, 0.98))
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(UserError, match="cannot write pictures"):
        plots.write(tmp_path)


@pytest.mark.parametrize("name", ["_mine", "[/]", "$x$"])
def test_the_legend_names_every_study(name):
    figure = plots.anytime([trial(1, 0.995, study=name)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{name}: {configuration().parameters():,}"]


@given(st.text(max_size=120))
def test_slugs_are_file_names(name):
    made = plots.slug(name)
    assert made and not made.startswith(".") and Path(made).name == made and made.isascii() and len(made) < 100
    if made != name:
        assert plots.slug(name + "x") != made


def test_different_names_have_different_files():
    names = ["a b", "a/b", "A-B", "a-b", "../a-b", "ä-b", "MNIST"]
    assert len({plots.slug(name) for name in names}) == len(names)


@given(st.text(max_size=200), st.integers(1, 80))
def test_short_names_keep_both_ends(value, most):
    line, whole = plot_marks.short(value, most), safe.line(value)
    assert len(line) <= most
    start, _, end = line.rpartition("…") if len(whole) > most else (line, "", "")
    assert whole.startswith(start) and whole.endswith(end) and len(start) - len(end) in (0, 1, len(line))


@given(st.text(max_size=10))
@settings(max_examples=examples(6))
def test_any_name_can_be_drawn(name):
    """Formulas, markup, control characters, scripts without a font: the picture is well-formed and keeps quiet."""
    for study in (name, name + "$\\frac{1}$ $x^ <&>\"'\x00\x1b漢"):
        data = DATA.model_copy(update={"label": study})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = plots.curves([trial(n, 0.98, study=study, dataset=data) for n in range(plots.FEWEST)])
            root = ElementTree.fromstring(plots.rendered(figure, "f", "svg"))
        drawn = " ".join(" ".join(root.itertext()).split())
        assert safe.line(study, 60)[:12] in drawn


def test_many_trials_stay_a_small_file():
    runs = [
        trial(n, 0.9 + (n % 97) / 1000, config=configuration(depth=1 + n % 12, final_dim=8 + 4 * (n % 5)))
        for n in range(1000)
    ]
    for draw in (plots.frontier, plots.curves):
        assert len(plots.rendered(draw(runs), "f", "svg")) < 300_000
