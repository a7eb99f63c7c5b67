"""The commands that the report tells its reader to run."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from campaigns import DATA, confirmation
from pages import Page, undrawn
from typer.main import get_command

from search.cli.app import app
from search.cli.values import network_of, recipe_of, seeds_of, source_of, target_of
from search.data import datasets
from search.data.source import Reading, Source
from search.records.commands import train_command
from search.records.jsonl import read_all
from search.report import html_page as report
from search.training.recipe import Recipe
from wavemix import LiteConfig

RESULTS = Path(__file__).resolve().parents[2] / "results"
QUIRKS = ("-pets", 'my pets\' "best"', "$(touch pwned)`touch pwned`", "~/pets;rm", "pets\nand plants", "a%20b/ü*?[c]")


def parsed(command: str) -> dict:
    """The options of `wavemix train` as the command line reads them."""
    words = shlex.split(command)
    # as a shell does it, too: there is nothing in it that a shell would expand
    seen = subprocess.run(["sh", "-c", f"printf '%s\\0' {command}"], check=True, capture_output=True, text=True).stdout
    assert seen.split("\0")[:-1] == words
    assert words[:2] == ["wavemix", "train"]
    return get_command(app).commands["train"].make_context("train", words[2:]).params


def source(options: dict) -> Source:
    named = ("data", "resize", "test_split", "skip_unreadable", "task", "scale", "test_set")
    return source_of(*(options[name] for name in named))


def test_command_gives_the_network_back():
    run = confirmation(
        [0.991], config=LiteConfig(in_channels=1, final_dim=12, depth=2, activation="silu", bias="needed")
    )
    (command,) = Page(report.page([run])).commands
    options = parsed(command)
    assert source(options) == Source("mnist")
    assert network_of(options["config"], "--config") == run.config
    assert type(run).model_validate(run.model_dump()).recipe == json.loads(options["recipe"])
    assert seeds_of(options["seed_list"]) == [0] and float(options["target"]) == run.target


@pytest.mark.parametrize("name", QUIRKS)
def test_command_names_a_folder_and_how_it_was_read(name):
    reading = Reading(resize=(32, 48), test_split=0.25, skip_unreadable=True)
    data = {"name": name, "variant": "folder", "reading": reading, "test_digest": "e" * 64, "test_count": 100}
    run = confirmation([0.99, 0.98], dataset=DATA.model_copy(update=data), target=0.987654321, seeds=[7, 8])
    (command,) = Page(report.page([run])).commands
    options = parsed(command)
    assert source(options).reading == reading
    assert Path(options["data"]) == Path(name), "the same folder"
    assert float(options["target"]) == run.target and seeds_of(options["seed_list"]) == run.seeds
    parsed(train_command(Source(name, reading), run.config, Recipe(), [1], run.target))


def test_commands_of_the_recorded_studies_can_be_run():
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        commands = Page(report.page(read_all(RESULTS))).commands
    assert len(commands) >= 10
    for command in commands:
        options = parsed(command)
        assert source(options).name in (*datasets.names(), "camvid", "sr")
        network = network_of(options["config"], "--config")
        assert recipe_of(options["recipe"], None, network.parameters()).epochs > 0
        assert seeds_of(options["seed_list"]) and target_of(options["target"], options["task"]) > 0
