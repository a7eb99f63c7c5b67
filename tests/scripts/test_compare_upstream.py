"""The comparison script itself, on stand-ins for upstream: a faithful copy of our package with one network spoilt."""

import json
import shutil
from pathlib import Path

import processes

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return processes.done("scripts.benchmarks.compare_upstream", *arguments)


def test_a_difference_is_found_where_it_is(tmp_path):
    shutil.copytree(ROOT / "wavemix", tmp_path / "wavemix", ignore=shutil.ignore_patterns("__pycache__"))
    spoilt = tmp_path / "wavemix" / "sisr.py"
    text = spoilt.read_text()
    assert text.count("self.expand(self.features(img))") == 1
    text = text.replace("self.expand(self.features(img))", "self.expand(self.features(img)) + 2e-5")
    # upstream's import that NumPy 2 lacks: the script has to take it out
    spoilt.write_text(text + "\nfrom numpy.lib.function_base import hamming\n")
    before = spoilt.read_bytes()
    result = run("--upstream", tmp_path, "--output", tmp_path / "out" / "rows.jsonl")
    assert result.returncode == 1, result.stderr
    assert "5 differ" in result.stdout
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"upstream comparison"}
    for row in rows:
        assert row["keys_equal"] and row["same_seed_same_weights"] and row["parameters"] == row["upstream_parameters"]
        assert (row["max_abs_difference"] > 1e-5) == (row["network"] == "wavemix.sisr.WaveMix")
    networks = {row["network"] for row in rows}
    assert networks >= {f"wavemix.{n}.WaveMix" for n in ("classification", "SemSegment", "sisr")}
    assert spoilt.read_bytes() == before


def test_upstream_that_is_not_there_is_one_line(tmp_path):
    result = run("--upstream", tmp_path)
    assert result.returncode == 2
    line = f"error: {tmp_path} holds no wavemix package: --upstream is the directory of the unpacked wheel\n"
    assert result.stderr == line
