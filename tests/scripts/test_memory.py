"""Memory of training beside torchvision's classifiers, on tiny images."""

import runpy
from pathlib import Path

import torchvision_operators

from search.records.jsonl import read

torchvision_operators.define()


def test_a_pair_is_measured_and_written(ended, tmp_path: Path):
    (tmp_path / "pages").mkdir()
    words = ["--results", tmp_path, "--peer", "mobilenet_v3_large", "--size", 32, "--repetitions", 1, "--device", "cpu"]
    ended(lambda: runpy.run_module("scripts.benchmarks.memory", run_name="__main__", alter_sys=True), *words)
    records = read(tmp_path / "records" / "benchmarks.jsonl")
    assert [record.details["kind"] for record in records] == ["saved", "peak", "speed"]
    saved, peak, _ = records
    ours, peers = saved.details["parameters"], saved.details["peer_parameters"]
    assert peers == 5_483_032 and abs(ours / peers - 1) < 0.05  # as torchvision documents
    for value in (peak.ours, *peak.peers.values()):  # weights, gradients and two moments, at the least
        assert value > 4 * 4 * min(ours, peers)
    page = (tmp_path / "pages" / "memory.md").read_text()
    assert "| mobilenet_v3_large, equal parameters |" in page and f"{ours:,}" in page
