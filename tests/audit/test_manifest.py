"""Manifests are read or refused before anything runs; networks that hang, die or fill the memory are one row each."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.audit.isolation import Limits
from search.audit.manifest import Entry, ManifestError, read
from search.audit.statements import statements
from search.records.figures import Figure, judged_parameters, judged_work
from search.report import audits, typeset

AUDITS = Path(__file__).parents[2] / "results" / "audits"


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert all(str(path) in line and "\n" not in line for line in caught.value.lines)
    return [line.removeprefix(f"{path}, ") for line in caught.value.lines]


# -------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("text", "value", "unit", "convention"),
    [
        ("11.7 M", 11.7e6, 1e5, None),
        ("25,557,032", 25557032, 1, None),
        ("2180000", 2180000, 1e4, None),
        ("1.81 GMACs", 1.81e9, 1e7, "MACs"),
        ("0.30 GFLOPs", 3e8, 1e7, "FLOPs"),
        ("1.8e9", 1.8e9, 1e8, None),
        ("4 G", 4e9, 1e9, None),
        ("600 mult-adds", 600, 100, "MACs"),
        ("28.6 million", None, None, None),
        ("-3", None, None, None),
        ("", None, None, None),
    ],
)
def test_figures_are_read_with_their_precision(text, value, unit, convention):
    if value is None:
        with pytest.raises(ValueError, match="no figure"):
            Figure.read(text)
        return
    found = Figure.read(text)
    assert (found.value, found.unit, found.convention) == (pytest.approx(value), unit, convention)


@given(st.integers(1, 10**12), st.integers(0, 6))
def test_a_count_agrees_with_itself_however_it_is_rounded(count, digits):
    for scale, letter in ((10**6, "M"), (10**9, "G")):
        text = f"{count / scale:.{digits}f} {letter}"
        assert judged_parameters(Figure.read(text), count).fine
    assert judged_parameters(Figure.read(str(count)), count).kind == "agree"


@given(st.integers(10**6, 10**12), st.integers(0, 10**5))
def test_a_factor_of_two_is_told_from_rounding_and_from_any_other(macs, others):
    flops = 2 * macs + others
    kinds = {said: judged_work(Figure.read(said), macs, flops).kind for said in (f"{macs} FLOPs", f"{flops} MACs")}
    assert set(kinds.values()) <= {"MACs stated as FLOPs", "FLOPs stated as MACs"}
    assert judged_work(Figure.read(f"{macs} MACs"), macs, flops).kind == "agree"
    assert judged_work(Figure.read(f"{2 * macs} FLOPs"), macs, flops).fine
    assert judged_work(Figure.read(f"{5 * macs + 1} MACs"), macs, flops).kind == "wrong"
    assert judged_work(Figure.read(f"{5 * macs + 1} MACs"), macs, flops, ["aten::sort"]).kind == "not countable"
    assert judged_work(Figure.read("1 MACs"), macs, flops, ["aten::sort"]).kind == "wrong"


@pytest.mark.parametrize(
    ("stated", "kind", "said"),
    [
        ("21797672", "agree", "agree"),
        ("21.8 M", "rounding", "agree, rounded"),
        ("21.79 M", "rounding", "agree, rounded"),  # cut off
        ("21.7 M", "rounding", "agree, rounded"),
        ("21.6 M", "wrong", "wrong by -0.907 %"),
        ("2180000", "wrong", "wrong: 10 times too small"),
        ("21814696", "with buffers", "with 17,024 numbers of buffers"),
        ("21.28 M", "without the head", "without the head's 513,000"),
        ("0", "wrong", "wrong: 21,797,672 counted"),
    ],
)
def test_verdicts_on_the_parameters_of_a_resnet34(stated, kind, said):
    verdict = judged_parameters(Figure.read(stated), 21797672, 17024, 513000)
    assert (verdict.kind, verdict.said) == (kind, said)


# -------------------------------------------------------------------------------------------------------- reading


def test_the_same_entries_from_csv_and_yaml(tmp_path):
    (tmp_path / "a.csv").write_text(
        "name,factory,arguments,input,parameters,flops,convention\n"
        'a,nets:a,"{""width"": 8}",3x8x8,1.50 M,20 G,MACs\nb,nets:b,,,17,,\n'
    )
    (tmp_path / "a.yaml").write_text(
        "defaults: {input: [3, 8, 8]}\nnetworks:\n"
        "- {name: a, factory: 'nets:a', arguments: {width: 8}, parameters: 1.50 M, flops: 20 G, convention: MACs}\n"
        "- {name: b, factory: 'nets:b', input: '3,224,224', parameters: 17}\n"
    )
    a, b = read(tmp_path / "a.csv")
    assert [a, b] == read(tmp_path / "a.yaml")
    assert a.arguments == {"width": 8} and a.input == (3, 8, 8) and a.parameters and a.parameters.unit == 1e4
    assert a.flops and a.flops.convention == "MACs" and b.flops is None and b.input == (3, 224, 224)


def test_zeros_that_a_number_would_lose_are_kept(tmp_path):
    (tmp_path / "a.yml").write_text("Models:\n- Name: a\n  Metadata: {Parameters: 1.50}\nFactories: {a: 'nets:a'}\n")
    (entry,) = read(tmp_path / "a.yml")
    assert entry.parameters and entry.parameters.text == "1.50" and entry.factory == "nets:a"


def test_every_wrong_line_is_named(tmp_path):
    text = (
        "networks:\n- {name: a, factory: nets, parameters: 3}\n- {name: b, factory: 'nets:b'}\n"
        "- {name: c, factory: 'nets:c', parameters: many, flops: 1 GMACs, convention: FLOPs, input: [3, 0, 8]}\n"
        "- {name: d, factory: 'nets:d', parameters: 3, width: 8, arguments: '{'}\n"
        "- {factory: 'nets:e', parameters: 3}\n"
        "- {name: f, factory: 'nets:f', parameters: 3}\n- {name: f, factory: 'nets:f', parameters: 3}\n"
    )
    found = problems(tmp_path / "a.yaml", text)
    assert [line.split(":")[0] for line in found] == [
        "line 2, a", "line 3, b", "line 4, c", "line 4, c", "line 4, c", "line 5, d", "line 5, d", "line 6",
        "line 8, f",
    ]  # fmt: skip
    said = "\n".join(found)
    for words in (
        "factory: 'nets' is not of the form module:callable", "states neither", "parameters: 'many' is no figure",
        "flops: '1 GMACs' says MACs, the convention beside it FLOPs", "input.1:", "width: there is no such field",
        "arguments: is not JSON", "name: is missing", "name: stands in line 7, too",
    ):  # fmt: skip
        assert words in said, words


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,size\na,3\n", "line 1: size: there is no such field"),
        ("a.csv", "name,factory,parameters\na,n:a,3,4\n", "4 cells under 3 columns"),
        ("a.csv", "", "no network"),
        ("a.yaml", "networks: [", "line 1"),
        ("a.yaml", "networks: 3", "is no list"),
        ("a.yaml", "- 3", "neither"),
        ("a.yaml", "networks: [3]", "is no mapping"),
        ("a.yaml", "networks: []", "no network"),
        ("a.yml", "Models: [{Name: r, Metadata: {FLOPs: 3}}]", "factory: is missing: give module:callable; in a meta"),
    ],
)
def test_what_is_no_manifest(tmp_path, name, text, message):
    assert message in " ".join(problems(tmp_path / name, text)) or message in str(text)


# ------------------------------------------------------------------------------------------------------- counting


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "manifestnets.py").write_text(
        "import os, time, torch\nfrom torch import nn\n"
        "def small(width=4): print('noise'); return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))\n"
        "def hangs(): time.sleep(600)\n"
        "def dies(): os.abort()\n"
        "def fills(): return nn.Linear(2**30, 8)\n"
        "def fails(): raise ValueError('no weights\\nhere')\n"
        "class Sorts(nn.Conv2d):\n    def forward(self, x): return super().forward(x).sort()[0]\n"
        "def sorts(): return Sorts(3, 4, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    return tmp_path


ROWS = """name,factory,arguments,input,parameters,flops
small,manifestnets:small,,"3,8,8",120,3888 MACs
buffers,manifestnets:small,"{""width"": 2}","3,8,8",65,
hangs,manifestnets:hangs,,"3,8,8",1,1 G
dies,manifestnets:dies,,"3,8,8",1,
fills,manifestnets:fills,,"3,8,8",1,
fails,manifestnets:fails,,"3,8,8",1,
sorts,manifestnets:sorts,,"3,8,8",16,1 M
last,manifestnets:small,,"3,8,8",120,3888 FLOPs
"""


def test_one_that_hangs_dies_or_fills_the_memory_is_one_row(nets, wavemix, monkeypatch):
    (nets / "a.csv").write_text(ROWS)
    arguments = ("audit", "manifest", "a.csv", "--time-limit", "8s", "--memory-limit", "3G")
    done = wavemix(*arguments, "--json", "--record", "r.jsonl", code=1)
    rows = {row["row"]: row for row in json.loads(done.out)}
    verdicts = {name: tuple(v["kind"] for v in row["verdicts"].values()) for name, row in rows.items()}
    assert verdicts == {  # on a busy machine a row may need more than its time
        "small": ("agree", "agree"),
        "buffers": ("with buffers", "not stated"),
        "hangs": ("not countable", "not countable"),
        "dies": ("not countable", "not stated"),
        "fills": ("not countable", "not stated"),
        "fails": ("not countable", "not stated"),
        "sorts": ("agree", "not countable"),
        "last": ("agree", "MACs stated as FLOPs"),
    }
    assert rows["hangs"]["reason"] == "no answer within 8 s" and "SIGABRT" in rows["dies"]["reason"]
    assert "memory" in rows["fills"]["reason"] and rows["fails"]["reason"].endswith("ValueError: no weights")
    assert "aten::sort" in rows["sorts"]["verdicts"]["flops"]["said"]
    assert "7 of 8 networks are not as stated" in done.err


def test_a_manifest_that_is_wrong_runs_nothing(nets, wavemix):
    (nets / "a.csv").write_text("name,factory,parameters\na,manifestnets:hangs,many\nb,manifestnets:hangs,3 X\n")
    said = wavemix("audit", "manifest", "a.csv", code=2).err.splitlines()
    assert [line.split(":")[1] for line in said] == [" a.csv, line 2, a", " a.csv, line 3, b"]
    assert "--memory-limit is a size" in wavemix("audit", "manifest", "a.csv", "--memory-limit", "x", code=2).err


# ---------------------------------------------------------------------------------------- torchvision and timm


def beside_cpu_torch(entry: Entry) -> Entry:
    arguments = {"factory": entry.factory, "arguments": entry.arguments}
    return entry.model_copy(update={"factory": "torchvision_operators:network", "arguments": arguments})


def test_the_manifests_of_the_repository_hold_what_they_should():
    entries = read(AUDITS / "torchvision-timm.yaml")
    assert len(entries) >= 24 and {entry.factory.split(".")[0].split(":")[0] for entry in entries} == {
        "torchvision",
        "timm",
    }
    assert all(entry.source for entry in entries)


def test_a_known_error_is_found(monkeypatch):
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    small = [e for e in read(AUDITS / "torchvision-timm.yaml") if e.name in ("squeezenet1_1", "mobilenet_v3_small")]
    entries = [beside_cpu_torch(entry) for entry in [*small, *read(AUDITS / "metafile.yml")]]
    rows = statements(entries, "m.yaml", Limits(seconds=300))
    assert [row.parameters_verdict.kind for row in rows] == ["agree", "agree", "wrong"], [row.reason for row in rows]
    assert [row.work_verdict.kind for row in rows] == ["MACs stated as FLOPs"] * 2 + ["not stated"]
    assert rows[2].parameters_verdict.said == "wrong: 10 times too small"
    frame = audits.statements(rows)
    assert "0.349 GFLOPs" in typeset.markdown(frame, "") and "349151936" in typeset.csv(frame)
