"""What a user imports: the public names, also where a file of theirs hides the package, and another `wavemix`."""

import subprocess
import sys
from pathlib import Path

import pytest

import search
import wavemix

ROOT = Path(search.__file__).parents[1]


def run(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess:
    """Python as in a notebook's folder: that comes first on the path."""
    start = f"import sys; sys.path[:0] = {[str(folder), *map(str, path), str(ROOT)]!r}\n"
    return subprocess.run([sys.executable, "-P", "-c", start + code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("package", [search, wavemix])
def test_public_names_exist(package):
    assert all(getattr(package, name) is not None for name in package.__all__) and package.__version__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_search_py_of_the_users_hides_nothing(tmp_path):
    (tmp_path / "search.py").write_text("mine = 1\n")
    code = (
        "import search; assert search.mine\n"
        "from wavemix.search import Goal, campaign\n"
        "import wavemix.search.records.goal, wavemix.search.campaign\n"
        "assert wavemix.search.records.goal.Goal is Goal and wavemix.search.campaign is campaign\n"
        "from search.records.goal import Goal as again; assert again is Goal\n"
        "assert wavemix.search.records.goal.__spec__.name == 'search.records.goal'\n"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_another_wavemix_is_named_in_one_line(tmp_path):
    (tmp_path / "other" / "wavemix").mkdir(parents=True)
    (tmp_path / "other" / "wavemix" / "__init__.py").write_text("xf1 = None\n")
    done = run("import search", tmp_path, tmp_path / "other")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: another package named wavemix has overwritten") and "pip uninstall" in last


def test_audits_return_what_the_command_shows(tmp_path):
    from safetensors.torch import save_file

    from search import campaign
    from wavemix import LiteConfig, WaveMixLite

    assert [row.counted for row in campaign.audit()] == [3566, 7156, 37058, 520106]
    network = WaveMixLite(LiteConfig(in_channels=1, final_dim=8, depth=2))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (row,) = campaign.audit(tmp_path / "w.safetensors")
    assert row.counted == network.config.parameters() and row.agree
    (row,) = campaign.audit("torch.nn:Identity", (1, 2, 2))
    assert row.counted == 0
