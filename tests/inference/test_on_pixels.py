"""Stored networks for segmentation and super-resolution: loaded, tested again, drawn with, exported."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import wavemix as package
from search.data.source import Source
from search.errors import UserError
from search.inference.evaluation import evaluate
from search.inference.ready import Enlarger, Segmenter
from search.inference.stored import find
from search.metrics.super_resolution import luma
from search.records.jsonl import append
from search.records.results import Results
from search.report.index import entries, rendered
from search.runtime import Runtime

QUIET = Runtime(say=lambda line: None)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Nothing published, in a folder of its own."""
    monkeypatch.setattr("search.records.results.PUBLISHED", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_segmentation_takes_images_of_any_size(on_pixels):
    network = package.load("scenes", results=on_pixels)
    assert isinstance(network, Segmenter) and network.shape is None and not network.training
    assert len(network.colours) == len(network.classes) == 4
    found = network(torch.rand(2, 3, 31, 45))
    assert found.shape == (2, 4, 31, 45)
    scene = Image.open(on_pixels / "images" / "scenes" / "test" / "0.png")
    image = torch.from_numpy(np.array(scene)).permute(2, 0, 1)
    given = find("scenes", Results(on_pixels)).inputs
    assert torch.equal(network(image[None] / 255), network.network(given.prepared(image[None])))
    for wrong in (image[None], torch.rand(1, 1, 32, 40), torch.rand(3, 32, 40)):
        with pytest.raises(ValueError, match="images are"):
            network(wrong)
    with pytest.raises(UserError, match="compiled=True is for classifiers"):
        package.load("scenes", results=on_pixels, compiled=True)


def test_super_resolution_enlarges_luma_and_keeps_colours(on_pixels):
    network = package.load("waves", results=on_pixels)
    assert isinstance(network, Enlarger) and (network.scale, network.channels) == (2, (1, 3))
    colourful = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    images = 0.2 + 0.6 * colourful  # far from black and white
    found = network(images)
    assert found.shape == (2, 3, 42, 60)
    low, high = ((luma(x * 255) / 255).float()[:, None] for x in (images, found))
    assert torch.allclose(high, network.network(low), atol=2e-3), "the luma is the network's"
    grey = images[:, :1]
    assert torch.allclose(network(grey).expand(-1, 3, -1, -1), network(grey.expand(-1, 3, -1, -1)), atol=1e-5)
    colours, larger = (x - x.mean(1, keepdim=True) for x in (found, package.heads.bicubic(images, 2)))
    assert torch.allclose(colours, larger, atol=1e-5), "what tells channels apart is enlarged bicubically"


@pytest.mark.parametrize(("study", "measure"), [("scenes", "pixel accuracy"), ("waves", "SSIM Far")])
def test_what_was_measured_comes_out_again(on_pixels, alone, wavemix, study, measure):
    stored = find(study, Results(on_pixels))
    found = evaluate(stored, QUIET)
    assert found.agrees is True and found.images == {"scenes": 3, "waves": 5}[study]
    assert found.scores == pytest.approx(stored.record.accuracies, abs=2e-4)
    here, recorded = found.beside[measure]
    assert here == pytest.approx(recorded, abs=1e-4) == pytest.approx(np.mean(stored.record.beside[measure]), abs=1e-4)
    said = wavemix("evaluate", study, "--results", on_pixels).out
    assert f"{stored.row}: as recorded" in said and measure in said and found.score.shown(found.mean) in said
    (facts,) = json.loads(wavemix("evaluate", study, "--seeds", 1, "--results", on_pixels, "--json").out)
    assert facts["agrees"] and facts["seeds"][0]["measure"] == found.score.name and len(facts["seeds"]) == 1


def test_a_record_that_differs_is_told_by_the_exit_code(on_pixels, alone, wavemix):
    shutil.copytree(on_pixels / "weights", alone / "weights")
    record = find("scenes", Results(on_pixels)).record
    fields = record.model_dump(exclude={"accuracies", "mean", "interval", "min", "max", "n", "reached", "cost"})
    append(alone / "scenes.jsonl", type(record).of([score + 0.01 for score in record.accuracies], **fields))
    said = wavemix("evaluate", "scenes", "--results", alone, code=1)
    assert "NOT as recorded" in said.out and "-1.00 points" in said.out
    elsewhere = shutil.copytree(on_pixels / "images" / "scenes", alone / "moved" / "scenes")
    assert "as recorded" in wavemix("evaluate", "scenes", "--data", elsewhere, "--results", on_pixels).out
    shutil.rmtree(elsewhere / "testannot")
    assert wavemix("evaluate", "scenes", "--data", elsewhere, "--results", on_pixels, code=2).err.count("\n") == 1
    wrong = wavemix("evaluate", "scenes", "--picture", "x.png", "--results", on_pixels, code=2).err
    assert "--picture is the confusion matrix of a classifier" in wrong


def test_other_classes_are_refused(on_pixels, tmp_path):
    other = shutil.copytree(on_pixels / "images" / "scenes", tmp_path / "scenes")
    (other / "classes.csv").write_text("value,name\n0,ground\n2,disc\n1,ignored\n3,cross\n")
    stored = find("scenes", Results(on_pixels))
    with pytest.raises(UserError, match="has 3 classes, scenes-folder-30-extended tells 4 apart"):
        evaluate(stored, QUIET, Source(str(other), stored.record.dataset.reading))


def test_all_rows_leave_out_images_that_are_not_here(on_pixels, alone, wavemix):
    shutil.copytree(on_pixels, alone / "copy")
    (alone / "copy" / "waves.jsonl").write_text(
        (on_pixels / "waves.jsonl").read_text().replace(str(on_pixels / "images"), "/nowhere")
    )
    # the checksum of a line that was changed by hand does not fit any more
    lines = [json.loads(line) for line in (alone / "copy" / "waves.jsonl").read_text().splitlines()]
    (alone / "copy" / "waves.jsonl").write_text(
        "".join(json.dumps({k: v for k, v in line.items() if k != "checksum"}) + "\n" for line in lines)
    )
    said = wavemix("evaluate", "--all", "--results", alone / "copy")
    assert "scenes-folder-30-extended: as recorded" in said.out
    assert said.err == "left out: near-2x-folder-12dB-extended, whose images are not here; name them with --data\n"


def test_pictures_are_drawn_in_the_colours_of_the_classes(on_pixels, alone, wavemix):
    scene = on_pixels / "images" / "scenes" / "test" / "0.png"
    Image.open(scene).resize((53, 37)).save("odd.png")
    said = wavemix("predict", "scenes", scene, "odd.png", "--output", "out", "--results", on_pixels).out
    assert said.splitlines()[1].startswith("wrote out/odd-classes.png, 37x53: ")
    network, drawn = package.load("scenes", results=on_pixels), Image.open("out/0-classes.png")
    image = torch.from_numpy(np.array(Image.open(scene))).permute(2, 0, 1)[None] / 255
    labels = network(image).argmax(1)[0].numpy()
    assert drawn.mode == "P" and np.array_equal(np.array(drawn), labels)
    assert np.array_equal(np.array(drawn.convert("RGB")), np.array(network.colours, np.uint8)[labels])
    (one,) = json.loads(wavemix("predict", "scenes", scene, "--results", on_pixels, "--json").out)
    assert one["picture"] == "0-classes.png" and (alone / "0-classes.png").exists()
    counts = {name: float((labels == k).mean()) for k, name in enumerate(network.classes)}
    assert one["shares"] == pytest.approx(counts)


def test_enlarged_images_are_as_grey_or_as_coloured_as_before(on_pixels, alone, wavemix):
    colour, grey = (on_pixels / "images" / "waves" / "Near" / f"{n}.png" for n in (1, 0))
    wavemix("predict", "waves", colour, grey, "--results", on_pixels)
    for path, mode in ((colour, "RGB"), (grey, "L")):
        before, larger = Image.open(path), Image.open(f"{path.stem}-2x.png")
        assert larger.mode == mode and larger.size == tuple(2 * edge for edge in before.size)
        resized = np.array(before.resize(larger.size, Image.Resampling.BICUBIC), float)
        assert abs(resized - np.array(larger)).mean() < 30, "it shows the same"


def test_what_cannot_be_drawn_is_one_line_and_writes_nothing(on_pixels, alone, wavemix):
    scene = Image.open(on_pixels / "images" / "scenes" / "test" / "0.png")
    for place in ("a", "b"):
        (alone / place).mkdir()
        scene.save(alone / place / "x.png")
    (alone / "bad.png").write_bytes(b"no image")
    place = ["--results", on_pixels]
    for arguments, message in (
        (["scenes", "a", "b"], "a/x.png and b/x.png would both become x-classes.png"),
        (["scenes", "a", "bad.png"], "bad.png: unreadable image"),
        (["scenes", "a", "--seed", 9], "has no seed 9"),
    ):
        said = wavemix("predict", *arguments, *place, code=2).err
        assert message in said and said.count("\n") == 1
    scene.save("x-classes.png")
    said = wavemix("predict", "scenes", "a", "x-classes.png", *place, code=2).err
    assert "x-classes.png is one of the images, and would be overwritten" in said
    assert sorted(path.name for path in alone.glob("*.png")) == ["bad.png", "x-classes.png"]
    done = wavemix("predict", "scenes", "a", "bad.png", "--skip-unreadable", "--output", "out", *place)
    assert "left out: bad.png" in done.err and [path.name for path in (alone / "out").iterdir()] == ["x-classes.png"]


def test_a_program_takes_any_size_that_needs_no_padding(on_pixels, alone, wavemix):
    place = ["--output", "network.pt2", "--results", on_pixels]
    said = wavemix("export", "scenes", "--format", "torch-export", *place).out
    assert "takes RGB images whose height and width are multiples of 8: pad others" in said
    assert "checked on 3 test images of scenes" in said
    network, images = package.load("scenes", results=on_pixels), torch.rand(3, 3, 56, 40)
    with torch.no_grad():
        found = torch.export.load("network.pt2").module()(images)
        assert torch.allclose(found, network(images), atol=1e-5)


def test_onnx_gives_the_enlarged_images(on_pixels, alone, wavemix):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    wavemix("export", "waves", "--format", "onnx", "--output", "network.onnx", "--results", on_pixels)
    model = onnx.load("network.onnx")
    onnx.checker.check_model(model)
    values = (*model.graph.input, *model.graph.output)
    sizes = [[dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in values]
    assert sizes == [["batch", "", "height", "width"], ["batch", "", "2*height", "2*width"]]
    images = torch.rand(3, 3, 14, 22)
    session = runtime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["larger"], {"images": images.numpy()})
    with torch.no_grad():
        assert np.allclose(found, package.load("waves", results=on_pixels)(images).numpy(), atol=1e-5)


@pytest.mark.parametrize("format", ["timm", "c"])
def test_formats_for_classifiers_say_so(on_pixels, alone, wavemix, format):
    said = wavemix("export", "scenes", "--format", format, "--results", on_pixels, code=2).err
    assert f"--format {format} is for classifiers" in said and "use --format onnx or torch-export" in said
    assert said.count("\n") == 1 and not list(alone.iterdir())


def test_index_and_cards_say_what_was_measured(on_pixels):
    results = Results(on_pixels)
    dense, larger = sorted(entries(results.read(), results.weights), key=lambda entry: entry.study)
    record = find("scenes", results).record
    assert (dense.task, dense.measure) == ("segmentation", "mIoU")
    assert (dense.score, dense.scores) == (record.mean, record.accuracies)
    assert (larger.task, larger.measure) == ("super-resolution", "PSNR") and larger.beside.keys() >= {"SSIM Far"}
    cards = rendered([dense, larger])
    for entry, pipeline, output in ((dense, "image-segmentation", "labels"), (larger, "image-to-image", "larger")):
        card = cards[f"cards/{entry.row}.md"]
        assert f"pipeline_tag: {pipeline}" in card and f"{output} = " in card
        assert f"| test {entry.measure} | {entry.judged.shown(entry.score)}" in card
