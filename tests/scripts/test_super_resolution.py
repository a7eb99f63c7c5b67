"""Super-resolution beside FSRCNN, on small pictures."""

import sys
from pathlib import Path

import torch
from scenes import waves

from scripts.benchmarks import harness
from scripts.benchmarks.super_resolution import FSRCNN, PEERS, main, weights
from search.records.jsonl import read


def test_the_peers_have_the_paper_s_numbers_of_weights_and_enlarge():
    networks = {name: FSRCNN(*sizes, 2) for name, sizes in PEERS.items()}
    assert {name: weights(network)[1] for name, network in networks.items()} == {"FSRCNN": 12_464, "FSRCNN-s": 3_937}
    for scale in (2, 3, 4):
        assert FSRCNN(8, 4, 1, scale)(torch.rand(2, 1, 9, 11)).shape == (2, 1, 9 * scale, 11 * scale)


def test_both_are_trained_and_recorded(ended, tmp_path: Path):
    pictures, output = waves(tmp_path / "waves"), tmp_path / "records.jsonl"
    words = [pictures, "--test-set", "Near", "--epochs", 1, "--repetitions", 2, "--recipe", '{"patch": 16}']
    said = ended(lambda: sys.exit(harness.ended(main)), *words, "--output", output).out
    assert "12,809 (12,464 weights)" in said and "FSRCNN-s at 0.003" in said
    larger, smaller = read(output)
    assert list(larger.peers) == ["FSRCNN"] and list(smaller.peers) == ["FSRCNN-s"]
    for record in (larger, smaller):
        assert record.unit == "dB" and record.repetitions == 2 and record.details["validation_images"] == 1
        found = record.details["spread"]
        assert found["ours"][0] <= record.ours <= found["ours"][1] and record.details["rate"] in found
