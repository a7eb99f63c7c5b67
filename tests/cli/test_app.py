"""The command line's own parts; whole runs of the command are in test_campaign."""

import csv
import io
import re
import shlex
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from candidates import split, trial
from rich.console import Console
from typer.testing import CliRunner

from search import __main__ as start
from search.cli import app as cli
from search.cli.listings import overview, studies
from search.cli.options import storage_at_home
from search.cli.panel import Display, clock, sparkline
from search.cli.values import fitted, network_of, seconds_of, seeds_of, source_of, study_name, validated
from search.confirmation.confirm import finalists
from search.confirmation.plan import fresh_seeds
from search.data.source import Reading, Source
from search.data.split import Split
from search.errors import UserError
from search.records.commands import train_command
from search.records.goal import Goal
from search.records.jsonl import append
from search.records.models import Confirmation
from search.study.checkpoint_store import Checkpoints
from search.study.search import Event
from search.study.storage import connect, sqlite_file
from search.text import latex, line, markdown
from search.training.recipe import Recipe
from wavemix import LiteConfig

CONFIG = LiteConfig(in_channels=1, final_dim=8, depth=2, stride=(2, 1))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("0.5h", 1800), ("1d", 86400), ("1e2s", 100)]
)
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "-3m", "0s", "infh", "nanm", "1 h 3", "fast"])
def test_bad_budgets(text):
    with pytest.raises(UserError, match="--budget is a time such as"):
        seconds_of(text)


def test_a_list_of_seeds_means_those_however_many():
    assert seeds_of("7,8") == [7, 8]
    assert seeds_of("3") == [3] and seeds_of("64") == [64] and seeds_of("0") == [0] and seeds_of("100") == [100]
    for text in ("-1", "1,1", "1,-2", "a", "", "1,,2", ",".join(map(str, range(65)))):
        with pytest.raises(UserError, match="--seed-list is"):
            seeds_of(text)


def test_channels_and_classes_are_the_datas():
    data = Split("x", "X", "train", torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3), tuple("abc"), "folder")
    found = fitted(network_of('{"final_dim": 8}', "--config"), data, "--config")
    assert (found.in_channels, found.num_classes, found.final_dim, found.ff_channel) == (1, 3, 8, 8)
    assert fitted(network_of('{"in_channels": 1, "num_classes": 3}', "--config"), data, "--config").num_classes == 3
    for text, said in (('{"num_classes": 10}', "num_classes is 10, but X has 3"), ('{"in_channels": 3}', "has 1")):
        with pytest.raises(UserError, match=said):
            fitted(network_of(text, "--config"), data, "--config")


def test_fresh_seeds_of_search_and_confirmation_never_meet():
    searched = {seed for s in range(3) for seed in fresh_seeds(64, s)}
    confirmed = {seed for s in range(3) for seed in fresh_seeds(64, s, 500)}
    assert len(searched) == len(confirmed) == 192 and not searched & confirmed
    assert min(searched | confirmed) > 3 * 1000 + 64, "and none is one of a trial"


def test_study_names_are_file_names(tmp_path):
    (tmp_path / "my images").mkdir()
    assert study_name("mnist", 0.99, "published") == "mnist-99-published"
    assert study_name("cifar10", 0.875, "extended") == "cifar10-87.5-extended"
    assert re.fullmatch(r"\w[\w.+-]*", study_name(str(tmp_path / "my images"), 0.9, "extended"))


def test_models_come_as_json_or_as_a_file(tmp_path):
    assert validated(LiteConfig, CONFIG.model_dump_json(), "--config") == CONFIG
    (tmp_path / "c.json").write_text(CONFIG.model_dump_json())
    assert validated(LiteConfig, str(tmp_path / "c.json"), "--config") == CONFIG
    for encoding in ("utf-8-sig", "utf-16"):  # with a byte order mark, as Windows writes it
        (tmp_path / "c.json").write_text(CONFIG.model_dump_json(), encoding)
        assert validated(LiteConfig, str(tmp_path / "c.json"), "--config") == CONFIG
    for text in ("{", '{"depht": 3}', '{"depth": "x"}', "missing.json", str(tmp_path)):
        with pytest.raises(UserError, match="--config"):
            validated(LiteConfig, text, "--config")


def test_the_home_directory_is_understood_in_every_path(tmp_path, monkeypatch, wavemix):
    """A shell leaves the ~ in --results=~/x as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.json").write_text(CONFIG.model_dump_json())
    assert validated(LiteConfig, "~/c.json", "--config") == CONFIG
    for command in ("tables", "report"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        assert str(tmp_path / "mine") in wavemix(command, "--results=~/mine").out
    assert f"{tmp_path}/gone, is no directory" in wavemix("data", "fetch", "mnist", "--data-dir=~/gone", code=2).err
    assert f"{tmp_path}/w.pth" in wavemix("audit", "--checkpoint=~/w.pth", code=2).err


@pytest.mark.parametrize("home", ["me", "a b", "50%25?#"])
def test_the_home_directory_is_understood_in_the_urls_of_files(tmp_path, monkeypatch, wavemix, home):
    (tmp_path / home / "kept").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / home))
    for url in ("sqlite:///~/kept/x.db", "sqlite+pysqlite:///~/kept/x.db"):
        assert sqlite_file(storage_at_home(url)) == tmp_path / home / "kept" / "x.db"
    with closing(connect(storage_at_home("sqlite:///~/kept/x.db"))):
        assert (tmp_path / home / "kept" / "x.db").is_file()
    said = wavemix("status", "--study", "mine", "--storage=sqlite:///~/kept/x.db", code=2).err
    assert "holds no study mine" in said
    for url in (None, "sqlite://", "sqlite:///x/~/y.db", "sqlite:////x.db", "sqlite:", "grpc://~:1", "postgresql:///~"):
        assert storage_at_home(url) == url
    assert Checkpoints("file://~/kept/c", tmp_path / "own").root == str(tmp_path / home / "kept" / "c")


def test_data_and_how_to_read_them_come_from_the_options():
    assert source_of("x", None, None, False) == Source("x")
    source = source_of("x y", "32,48", 0.25, True)
    assert source.reading == Reading(resize=(32, 48), test_split=0.25, skip_unreadable=True)
    assert source.words() == ["x y", "--resize", "32,48", "--test-split", "0.25", "--skip-unreadable"]
    for text in ("32", "0,3", "a,b", "", "1,2,3", "99999,1", "1.5,2"):
        with pytest.raises(UserError, match="--resize is height,width"):
            source_of("x", text, None, False)
    for share in (0.0, 1.0, 20.0, -0.1, float("nan")):
        with pytest.raises(UserError, match="--test-split is a share between 0 and 1"):
            source_of("x", None, share, False)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("[pets]", "pets--90-extended"), (".hidden", "hidden-90-extended"), ("a b\nc", "a-b-c-90-extended"),
        ("cafe\u0301", "caf\u00e9-90-extended"), ("日本", "日本-90-extended"), ("--x", "x-90-extended"),
    ],
)  # fmt: skip
def test_folders_of_any_name_name_a_study(tmp_path, folder, name):
    (tmp_path / folder).mkdir()
    assert study_name(str(tmp_path / folder), 0.9, "extended") == name
    assert study_name(str(tmp_path / folder), 0.9, "extended", study_name("x", 0.9, "extended", name)) == name


def test_a_folder_that_names_nothing_asks_for_a_name(tmp_path):
    (tmp_path / "[.]").mkdir()
    with pytest.raises(UserError, match=r"can't be named after '.*\[\.\]': name it by --name"):
        study_name(str(tmp_path / "[.]"), 0.9, "extended")
    assert study_name(str(tmp_path / "[.]"), 0.9, "extended", "pets") == "pets"


def test_train_command_holds_all_there_is_to_know(tmp_path):
    recipe = Recipe(epochs=7, lr=0.03, optimizer="muon")
    command = shlex.split(train_command(Source("a b/images"), CONFIG, recipe, [5, 6], 0.875, tmp_path, "cuda:1"))
    assert command[command.index("--device") + 1] == "cuda:1"
    assert "--device" not in train_command(Source("mnist"), CONFIG, recipe, [5], 0.875)
    assert train_command(Source("mnist"), CONFIG, recipe, [5], 0.875, results=tmp_path).endswith(
        f"--results {tmp_path}"
    )
    with pytest.raises(UserError, match="lr: Input should be a finite number"):
        validated(Recipe, '{"lr": 1e400}', "--recipe")
    options = dict(zip(command[3::2], command[4::2]))
    assert command[:3] == ["wavemix", "train", "a b/images"]
    assert LiteConfig.model_validate_json(options["--config"]) == CONFIG
    assert Recipe.model_validate_json(options["--recipe"]) == recipe
    assert seeds_of(options["--seed-list"]) == [5, 6] and float(options["--target"]) == 0.875
    assert options["--data-dir"] == str(tmp_path)


# --- the commands --------------------------------------------------------------------------------------------------


def test_help_needs_no_torch():
    slow = {"torch", "optuna", "pandas", "matplotlib"}
    code = f"import sys; from search.cli import data, run, show, use, workers; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_interruption_while_the_command_is_loaded_is_one_line(monkeypatch, capsys):
    class Interrupting:
        def find_spec(self, name, *_):
            if name == "search.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "search.cli.app")
    monkeypatch.delattr("search.cli.app")  # the package remembers what it has imported, too
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as stopped:
        start.main()
    assert stopped.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_every_command_has_help():
    runner = CliRunner()
    for command in (
        "search",
        "confirm",
        "train",
        "audit",
        "tables",
        "status",
        "evaluate",
        "predict",
        "data list",
        "data fetch",
    ):
        done = runner.invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": "200"})
        assert done.exit_code == 0 and "Usage" in done.output, command


def test_confirm_takes_the_smallest_trial_on_record(tmp_path, monkeypatch):
    records = [trial(2, 0.95, study="toy-90-published"), trial(3, 0.99, study="toy-90-published")]
    for record in records:
        append(tmp_path / "toy-90-published.jsonl", record)
    given = {}

    def confirm_smallest(found, data, goal, plan, *_, **__):
        given.update(found=found, goal=goal, plan=plan)
        return []

    monkeypatch.setattr("search.data.datasets.load", lambda source, part, data_dir: split(part))
    monkeypatch.setattr("search.campaign.confirm_smallest", confirm_smallest)
    monkeypatch.setattr("search.report.tables.write", lambda results: [])
    arguments = ["confirm", "toy", "--target", "0.9", "--family", "published", "--results", str(tmp_path)]
    done = CliRunner().invoke(cli.app, [*arguments, "--budget", "1h"], catch_exceptions=False)
    assert done.exit_code == 0
    assert given["found"] == finalists(records, "Toy", 0.9, 10) and given["found"][0].config.depth == 2
    assert given["plan"].seeds == tuple(fresh_seeds(10, 0, 500)) and given["plan"].looks == (3, 5, 10)
    assert 3500 < given["plan"].deadline - time.monotonic() <= 3600
    assert given["goal"] == Goal("toy-90-published", 0.9, "published")


def test_confirm_of_a_study_of_the_other_family_says_so(tmp_path, monkeypatch):
    append(tmp_path / "mine.jsonl", trial(2, 0.95, study="mine"))
    monkeypatch.setattr("search.data.datasets.load", lambda source, part, data_dir: split(part))
    arguments = ["confirm", "toy", "--target", "0.9", "--name", "mine", "--results", str(tmp_path)]
    with pytest.raises(UserError, match="mine is of the published family: give --family"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    def full(**_):
        raise OSError(28, "No space left on device", "/somewhere/results")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "wavemix: /somewhere/results: No space left on device\n"


def test_ctrl_c_anywhere_says_so(monkeypatch, wavemix, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("search.report.tables.write", stop)
    assert wavemix("tables", "--results", tmp_path, code=130).err == "interrupted\n"


def test_version_tells_two_checkouts_apart():
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0 and re.fullmatch(r"wavemix \d+\.\d+\.\d+ [0-9a-f]{16}\n", done.output)


def test_confirm_without_records_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no records of a study mnist-99-extended .* search first"):
        CliRunner().invoke(
            cli.app, ["confirm", "mnist", "--target", "0.99", "--results", str(tmp_path)], catch_exceptions=False
        )


def test_status_counts_by_study(tmp_path):
    for record in (trial(2, 0.95), trial(1, 0.905), trial(3, 0.5, state="pruned")):
        append(tmp_path / "toy.jsonl", record)
    done = CliRunner().invoke(cli.app, ["status", "--results", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    (row,) = [line for line in done.output.splitlines() if "Toy" in line]
    cells = re.split("  +", row.strip())
    assert cells == ["toy", "Toy", "0.9", "3", "1", f"{trial(2, 0.95).parameters:,}", "-", "-"]


def test_data_list_names_every_data_set():
    done = CliRunner().invoke(cli.app, ["data", "list"])
    assert {"mnist", "fashion-mnist", "cifar10"} <= set(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["confirm", "mnist", "--target", "0.99", "--results", "/nowhere"], "no records of a study mnist-99-extended"),
        (["confirm", "mnist", "--target", "2"], "--target is a fraction"),
        (["status", "--results", "/nowhere"], "no results directory"),
        (["train", "mnist", "--config", "{}", "--target", "0"], "--target is a fraction"),
        (["audit", "--factory", "a:b", "--input", "3,x"], "--input is channels,height,width"),
        (["audit", "--input", "1,28,28"], "--input is of the network that --factory makes"),
        (["audit", "--factory", "a:b", "--saved-models"], "audits of their own: give one"),
        (["search", "", "--target", "0.9"], "unknown data set ''"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(wavemix, arguments, message):
    said = wavemix(*arguments, code=2).err
    assert said.startswith("wavemix: ") and message in said and said.count("\n") == 1


def test_corrupted_record_names_file_and_line(tmp_path, wavemix):
    append(tmp_path / "toy.jsonl", trial(2, 0.95))
    with open(tmp_path / "toy.jsonl", "a") as file:
        file.write('{"kind": "trial"}\n')
    said = wavemix("status", "--results", tmp_path, code=2).err
    assert "toy.jsonl, line 2" in said and "Traceback" not in said and said.count("\n") == 1


def test_tables_check_tells_a_changed_table(tmp_path, wavemix):
    append(tmp_path / "toy.jsonl", trial(2, 0.95))
    wavemix("tables", "--results", tmp_path)
    wavemix("tables", "--results", tmp_path, "--check")
    table = next(path for path in Path(tmp_path).rglob("*.md"))
    table.write_text(table.read_text() + "edited\n")
    assert table.name in wavemix("tables", "--results", tmp_path, "--check", code=1).err


@pytest.mark.parametrize("said", ["[/]", "[bold]x[/bold]", "a\x1b[2Jb\rc", "=1+1", "@SUM(A1)", "\x9b31m", "_a|b&c\n"])
def test_what_records_say_is_shown_as_text_everywhere(tmp_path, wavemix, said):
    dataset = trial(2, 0.95).dataset.model_copy(update={"label": said})
    append(tmp_path / "toy.jsonl", trial(2, 0.95, study=said, reason=said, dataset=dataset))
    shown = line(said)
    assert wavemix("status", "--results", tmp_path).out.count(shown) == 2
    wavemix("tables", "--results", tmp_path)
    written = {path.suffix: path.read_text() for path in (tmp_path / "tables").glob("trials.*")}
    assert markdown(said) in written[".md"] and latex(said) in written[".tex"]
    (row,) = csv.DictReader(io.StringIO(written[".csv"], newline=""))
    assert line(row["Study"].removeprefix("'")) == shown and row["Study"].startswith("'") == (said[0] in "=@")
    assert not any(c for text in written.values() for c in text if not (c.isprintable() or c == "\n"))


# --- the display ---------------------------------------------------------------------------------------------------


def events() -> list[Event]:
    start = Event("trial", config=CONFIG, number=4, epochs=8)
    epochs = [
        Event("epoch", "", CONFIG, 4, epoch, 8, [0.5 + 0.05 * e for e in range(epoch)], accuracy=0.5)
        for epoch in range(1, 9)
    ]
    end = Event("done", "", CONFIG, 4, 8, 8, epochs[-1].curve, "complete", 0.95, [0.9])
    return [start, *epochs, end, Event("note", "that was all")]


def test_plain_lines_without_a_terminal(capsys):
    with Display(Console(file=io.StringIO()), "Toy", [0.9], 3566, 900) as display:
        for event in events():
            display(event)
    lines = [line.split("] ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"trial 4: {CONFIG.name}, {CONFIG.parameters():,} parameters"
    shown = [line for line in lines if "epoch" in line]
    assert shown[-1] == "  epoch 8/8: 85.00 % validation" and shown[0].endswith(" left")
    assert len([line for line in lines if "epoch" in line]) == 4, "four lines a trial, however many epochs"
    assert "95.00 % reaches the target: new incumbent" in lines[-2] and lines[-1] == "that was all"


def test_only_a_smaller_network_is_a_new_incumbent():
    display = Display(Console(file=io.StringIO()), "Toy", [0.9], 3566, 900)
    larger = CONFIG.model_copy(update={"depth": CONFIG.depth + 1})
    for config in (CONFIG, larger):
        display(Event("done", "", config, 4, 8, 8, [0.95], "complete", 0.95, [0.9]))
    assert display.best[0.9].config == CONFIG


def test_panel_on_a_terminal():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    display = Display(console, "Toy", [0.9], 3566, 900)

    def panel() -> str:
        file.truncate(0)
        file.seek(0)
        console.print(display)
        return file.getvalue()

    assert "none yet below 3,566 parameters" in panel()
    *before, done, note = events()
    for event in before:
        display(event)
    running = panel()
    assert "epoch 8/8" in running and "85.00 %" in running and CONFIG.name in running and "left" in running
    assert sparkline(before[-1].curve) in running
    display(done)
    display(note)
    after = panel()
    assert f"{CONFIG.parameters():,} parameters, 95.00 %" in after and "1 complete" in after and "that was all" in after


def test_sparkline_and_clock():
    assert sparkline([0.0, 0.5, 1.0]) == "▁▄█" and sparkline([0.3, 0.3]) == "▁▁"
    assert len(sparkline([0.1] * 90)) == 40
    assert clock(59.9) == "0:59" and clock(3725) == "1:02:05" and clock(-3) == "0:00"


def test_studies_of_one_name_and_other_targets_are_kept_apart():
    table = studies(overview([trial(2, 0.95), trial(2, 0.95, target=0.8)]))
    assert sorted(table["target"]) == ["0.8", "0.9"] and len(table.columns) == 8


def test_records_without_validation_images_or_accuracy_are_shown():
    """The schema accepts them: a trial judged on nothing, and one that is complete without a mean."""
    plain = trial(2, 0.95, dataset=trial(2, 0.95).dataset.model_copy(update={"validation_count": 0}))
    empty = trial(2, 0.95, accuracies=[], seeds=[], accuracy_validation=None, target=0.8)
    assert studies(overview([plain, empty]))["smallest feasible"] == [f"{plain.parameters:,}", "-"]


def test_a_studys_smallest_reached_and_confirmed_are_told_apart():
    def tested(depth, accuracies):
        names = ("study", "config", "recipe", "dataset", "target", "family", "parameters", "state")
        fields = {name: getattr(trial(depth, 0.95), name) for name in names}
        return Confirmation.of(accuracies, **fields, seeds=list(range(len(accuracies))))

    table = studies(overview([tested(1, [0.89, 0.93]), tested(2, [0.95, 0.951, 0.952])]))
    assert table["reached"] != table["confirmed"] and "-" not in table["reached"] + table["confirmed"]


@pytest.mark.parametrize(
    "device, problem",
    [("gpu", "--device is cpu, cuda, or one of several GPUs such as cuda:1, not 'gpu'"), ("cuda:99", "PyTorch finds")],
)
def test_devices_that_are_not_there_are_refused(wavemix, device, problem):
    assert problem in wavemix("search", "mnist", "--target", "0.9", "--device", device, code=2).err


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["serch"], "No such command 'serch'"),
        (["search", "mnist"], "Missing option '--target'"),
        (["search", "mnist", "--target", "0.9", "--seed", "much"], "Invalid value for '--seed'"),
        (["tables", "--chek"], "--chek"),
    ],
)
def test_arguments_of_the_wrong_form_get_one_line(wavemix, arguments, problem):
    written = wavemix(*arguments, code=2)
    assert written.out == "" and written.err.count("\n") == 1
    assert written.err.startswith("wavemix: ") and problem in written.err and "--help` lists" in written.err


def test_no_arguments_get_the_help(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wavemix"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    written = capsys.readouterr()
    assert end.value.code == 2 and "search" in written.out and written.err == ""
