"""Latency has a spread and memory is what is held and allocated; what a device can't do is said."""

import json

import torch
from torch import nn

from search.audit.speed import Way, speed
from search.records.audits import Audit
from wavemix import LiteConfig, WaveMixLite

NETWORK = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), nn.Conv2d(16, 4, 1, bias=False))


def test_a_forward_pass_and_a_training_step():
    forward = speed(NETWORK, (3, 32, 32), Way(batch=2), repetitions=3, warm_up=1)
    assert forward.reason == "" and 0 < forward.low_seconds <= forward.median_seconds <= forward.high_seconds
    assert forward.images_per_second == 2 / forward.median_seconds and forward.peak_gpu_bytes is None
    weights, pixels = 4 * (3 * 16 + 16 * 4), 2 * 32 * 32 * 4
    # both results are there at once, as the first is the second layer's input
    assert forward.peak_cpu_bytes >= weights + pixels * (3 + 16 + 4)
    step = speed(NETWORK, (3, 32, 32), Way(batch=2, training=True), repetitions=2, warm_up=1)
    assert step.peak_cpu_bytes >= 3 * weights + pixels * (3 + 16 + 4)  # AdamW has two moments


def test_precision_and_layout_are_the_pass_ones():
    seen = []

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            seen.append((x.dtype, self.weight.dtype, x.is_contiguous(memory_format=torch.channels_last)))
            return x * self.weight

    for dtype in ("float32", "bfloat16"):
        for layout in ("contiguous", "channels-last"):
            speed(Looks(), (3, 8, 8), Way(dtype=dtype, layout=layout), repetitions=2, warm_up=0)
    assert list(dict.fromkeys(seen)) == [
        (dtype, dtype, last) for dtype in (torch.float32, torch.bfloat16) for last in (False, True)
    ]


def test_what_does_not_run_has_no_figures():
    found = speed(NETWORK, (4, 8, 8), Way(), repetitions=2)
    assert found.median_seconds is None and found.peak_cpu_bytes is None and "channels" in found.reason


def test_the_commands(wavemix, monkeypatch, tmp_path):
    arguments = ("audit", "speed", "--factory", "torch.nn:Identity", "--input", "1,2,2", "--repetitions", "2")
    rows = json.loads(wavemix(*arguments, "--batch", "1,4", "--dtype", "float32,bfloat16", "--json").out)
    assert len(rows) == 8 and {row["peak_gpu_bytes"] for row in rows} == {None}
    monkeypatch.setenv("COLUMNS", "160")
    assert "quartiles ms" in wavemix(*arguments, "--layout", "contiguous").out
    config = LiteConfig(final_dim=8, depth=1)
    torch.save(WaveMixLite(config).state_dict(), tmp_path / "w.pth")
    shown = wavemix("audit", "--checkpoint", tmp_path / "w.pth", "--input", "3,16,16", "--batch", 2, "--json").out
    wide = Audit.model_validate(json.loads(shown)[0]).cost
    half = wavemix(
        "audit", "--checkpoint", tmp_path / "w.pth", "--input", "3,16,16", "--dtype", "bfloat16", "--json"
    ).out
    narrow = Audit.model_validate(json.loads(half)[0]).cost
    assert wide.activation_batch == 2 and narrow.activation_batch == 16 and wide.macs == narrow.macs
    assert narrow.activation_bytes_per_image < 0.6 * wide.activation_bytes_per_image
