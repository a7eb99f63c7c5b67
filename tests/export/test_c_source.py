"""C source against PyTorch: every option, on 100 images, built strictly and with sanitizers."""

import re
import shutil
import subprocess
from pathlib import Path

import exports
import pytest
import torch
from examples import examples
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from search.errors import UserError
from search.export import c_file
from search.export.c_source import numbers, plain, source
from search.export.check import TOLERANCE
from search.space.configurations import EXTENDED, PUBLISHED
from wavemix import LiteConfig

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = (*STRICT, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

# each choice of each option at least once, also those that the searches do not propose
CASES = {
    "published": (dict(upsampling="nearest", stride=(2, 1)), (28, 28)),
    "smallest of MNIST": (
        dict(depth=4, initial_conv="separable", upsampling="bilinear", shared=3, bias="needed", mult=1), (28, 28)),
    "depthwise": (dict(initial_conv="separable", upsampling="depthwise", bias="needed", in_channels=3), (32, 32)),
    "shared depthwise": (dict(initial_conv="single", kernel=5, upsampling="depthwise", shared=1, level=2), (16, 24)),
    "deconv": (dict(upsampling="deconv", ff_channel=4, level=3, stride=(1, 2), activation="silu"), (32, 16)),
    "shared deconv": (dict(upsampling="deconv", shared=2, depth=3, initial_conv="single", kernel=7, pad=2), (8, 8)),
    "one scale": (dict(upsampling="bilinear", shared=2, depth=5, affine="one", bias="needed"), (12, 12)),
    "a scale a block": (dict(upsampling="deconv", shared=2, depth=3, affine="block", level=2), (16, 8)),
    "one scale without sharing": (dict(upsampling="depthwise", depth=3, affine="one"), (16, 16)),
    "patches": (dict(initial_conv="patchify", patch_size=2, level=4, activation="relu", in_channels=3), (32, 64)),
    "projected": (dict(upsampling="bilinear", ff_channel=4, level=4, bias="needed", num_classes=2), (16, 16)),
    "active stem": (dict(initial_conv="separable", stem_activation=True, activation="silu", pad=1), (12, 10)),
    "large strides": (dict(upsampling="bilinear", stride=(3, 2), pad=1, final_dim=4, level=2), (45, 21)),
    "a map of one row of bands": (dict(upsampling="depthwise", final_dim=4), (2, 6)),
}  # fmt: skip


def configuration(options: dict) -> LiteConfig:
    return LiteConfig(**{"in_channels": 1, "final_dim": 8, "depth": 2} | options)


def difference(ready, folder: Path, flags: tuple[str, ...]) -> float:
    """The greatest difference of its scores from the network's, in terms of the greatest score."""
    path = folder / "network.c"
    c_file.write(ready, "toy", path)
    images = exports.images(ready)
    found = c_file.run(c_file.built(path, folder / "network", tuple(images.shape[1:]), flags), images)
    with torch.inference_mode():
        expected = ready(images)
    assert found.shape == expected.shape
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


@needs_cc
@pytest.mark.parametrize("name", CASES)
def test_every_option_gives_the_scores_of_pytorch(name, tmp_path):
    options, size = CASES[name]
    assert difference(exports.ready(configuration(options), *size), tmp_path, SANITIZED) < TOLERANCE


def test_the_cases_have_every_choice_of_the_searches():
    used = [configuration(options) for options, _ in CASES.values()]
    for hyperparameter in (
        "upsampling",
        "initial_conv",
        "level",
        "bias",
        "activation",
        "stem_activation",
        "kernel",
        "affine",
    ):
        proposed = {*PUBLISHED.get(hyperparameter, ()), *EXTENDED.get(hyperparameter, ())}
        assert proposed <= {getattr(config, hyperparameter) for config in used}, hyperparameter


@needs_cc
@settings(
    max_examples=examples(6),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
@given(
    config=st.builds(
        LiteConfig,
        in_channels=st.sampled_from([1, 3]), final_dim=st.sampled_from([4, 8, 12]), depth=st.integers(2, 3),
        mult=st.integers(1, 3), ff_channel=st.sampled_from([None, 4, 6]), level=st.integers(1, 4),
        upsampling=st.sampled_from(["nearest", "bilinear", "deconv", "depthwise"]),
        initial_conv=st.sampled_from(["strided", "patchify", "single", "separable"]),
        stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), kernel=st.sampled_from([3, 5, 7]),
        patch_size=st.integers(1, 4), pad=st.integers(0, 3), shared=st.integers(0, 2),
        affine=st.sampled_from(["depth", "block", "one"]), bias=st.sampled_from(["all", "needed"]),
        activation=st.sampled_from(["gelu", "relu", "silu"]), stem_activation=st.booleans(),
    ),
    size=st.tuples(st.sampled_from([8, 16, 20, 28]), st.sampled_from([8, 16, 24, 28])),
)  # fmt: skip
def test_any_configuration_gives_the_scores_of_pytorch(config, size, tmp_path):
    try:
        config.check_image_size(*size)
    except ValueError:
        assume(False)
    assert difference(exports.ready(config, *size), tmp_path, (*STRICT, "-O1")) < TOLERANCE


@needs_cc
@pytest.mark.parametrize("name", ["smallest of MNIST", "patches", "shared deconv"])
def test_the_memory_is_what_the_file_says(name, tmp_path):
    """Of the object file: .bss has all static buffers, .rodata the constants (and the compiler's own)."""
    if shutil.which("size") is None:
        pytest.skip("needs binutils")
    options, shape = CASES[name]
    made = source(exports.ready(configuration(options), *shape), "toy")
    assert f"{made.flash:,} bytes of constants" in made.text and f"{made.ram:,} bytes of static" in made.text
    (tmp_path / "n.c").write_text(made.text)
    subprocess.run(["cc", *STRICT, "-Os", "-c", "-o", tmp_path / "n.o", tmp_path / "n.c"], check=True)
    listed = subprocess.run(["size", "-A", tmp_path / "n.o"], capture_output=True, text=True, check=True).stdout
    sections = {line.split()[0]: int(line.split()[1]) for line in listed.splitlines() if line.startswith(".")}
    kept = sum(size for section, size in sections.items() if section.startswith(".rodata"))
    assert made.ram <= sections[".bss"] < made.ram + 64 and ".data" not in sections or sections[".data"] == 0
    assert made.flash <= kept < made.flash + 300
    assert not re.search(r"\b(malloc|calloc|alloca)\b", made.text)


def test_numbers_are_exact_and_comments_hold_no_code():
    values = torch.tensor([1.0, -0.1, 1e-40, 3e38, 2.0**-126, 1 / 3, 123456789.0]).numpy()
    found = [float(text.rstrip("f,")) for text in numbers(values).split()]
    assert torch.equal(torch.tensor(found), torch.tensor([0 if abs(v) < 1e-39 else v for v in values.tolist()]))
    assert plain("a-b, 90 %: é*/\\\n") == "a-b, 90 %: ?????"
    network = exports.ready(configuration({}), 28, 28, data="*/ #error\n")
    assert source(network, "*/ #error").text.count("*/ #error") == 0


def test_what_c_does_not_cover_is_one_line():
    with pytest.raises(UserError, match="no C source of the wavelet db2: use --format onnx or torch-export"):
        source(exports.ready(configuration({"wavelet": "db2"}), 28, 28), "toy")
    with pytest.raises(UserError, match="no C source of blocks that take turns: use --format onnx"):
        source(exports.ready(configuration({"cycle": 2, "depth": 2}), 28, 28), "toy")
    with pytest.raises(UserError, match=r"no C source of several views of an image \(mirror\): use --format onnx"):
        source(exports.ready(configuration({"views": "mirror"}), 28, 28), "toy")
    network = exports.ready(configuration({}), 28, 28)
    network.network.pool[2].bias.data[0] = float("nan")
    with pytest.raises(UserError, match="weights that are no numbers"):
        source(network, "toy")


def test_without_a_compiler_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="there is none: install cc, or name one in CC"):
        c_file.write(exports.ready(configuration({}), 28, 28), "toy", tmp_path / "n.c")
    assert not (tmp_path / "n.c").exists()


@needs_cc
def test_a_program_that_breaks_is_said(tmp_path):
    head = "int wavemix_predict(const float *image, float *scores)"
    body = "{ scores[0] = image[0]; __builtin_trap(); }"
    (tmp_path / "n.c").write_text(f"enum {{ CLASSES = 2 }};\n{head};\n{head} {body}\n")
    with pytest.raises(UserError, match="breaks"):
        c_file.scores(tmp_path / "n.c", torch.zeros(1, 1, 2, 2))
    (tmp_path / "n.c").write_text("nonsense")
    with pytest.raises(UserError, match="can't build the C source"):
        c_file.scores(tmp_path / "n.c", torch.zeros(1, 1, 2, 2))
