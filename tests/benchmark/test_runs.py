"""What a run begins with, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_rows import parts, row

from search.benchmark.examples import Parts, Stored
from search.benchmark.processes import Processes
from search.benchmark.rows import Network
from search.benchmark.runs import Order, course_of, evaluate, start_with
from search.benchmark.setup import Setup
from search.errors import UserError
from wavemix import registry

ROW = row()
SMALL = {"num_classes": 4, "depth": 1, "final_dim": 8, "ff_channel": 8}


def named(classes: int) -> Network:
    return Network(name="wavemix_144_7_l1_s1", arguments=SMALL | {"num_classes": classes})


def test_weights_of_upstreams_form_are_a_start_for_other_classes(tmp_path: Path):
    torch.manual_seed(1)
    old = registry.create("wavemix_144_7_l1_s1", **SMALL | {"num_classes": 7})
    torch.save({"module." + name: tensor for name, tensor in old.state_dict().items()}, tmp_path / "old.pth")
    new = named(4).build()
    head = new.pool[2].weight.detach().clone()
    start_with(new, Order(ROW.model_copy(update={"network": named(4)}), "ours", start=tmp_path / "old.pth"))
    for name, tensor in new.state_dict().items():
        if not name.startswith("pool"):
            assert torch.equal(tensor, old.state_dict()[name]), name
    assert torch.equal(new.pool[2].weight, head)


def test_weights_of_another_body_are_refused(tmp_path: Path):
    torch.save(registry.create("wavemix_144_7_l1_s1", **SMALL | {"depth": 2}).state_dict(), tmp_path / "deep.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    network = named(4).build()
    for name, said in (("other.pth", "is not of this network's body"), ("text.pth", "can't be read as a checkpoint")):
        with pytest.raises(UserError, match=said):
            start_with(network, Order(ROW, "ours", start=tmp_path / name))
    with pytest.raises(UserError, match="starts from weights: name them by --start"):
        start_with(network, Order(row(start="weights"), "ours"))


def test_weights_of_another_network_are_not_evaluated(tmp_path: Path):
    torch.save(named(4).build().state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="is not of this network"):
        evaluate(ROW, tmp_path / "other.pth", parts(), Processes(Setup(cpu=True)))


def test_data_that_do_not_go_with_the_row_are_refused():
    processes, data = Processes(Setup(cpu=True)), parts()
    with pytest.raises(UserError, match="bars has 3 classes here, the row's network 4"):
        course_of(Order(ROW, "ours"), replace(data, classes=("a", "b", "c")), processes)
    with pytest.raises(UserError, match="--images 100: there are 48 to train on"):
        course_of(Order(ROW, "ours", images=100), data, processes)
    one = Stored(torch.zeros(1, 1, 8, 8).byte(), torch.zeros(1).long())
    with pytest.raises(UserError, match="of 1 images none can be split off"):
        course_of(Order(ROW, "ours"), Parts(one, one, data.classes), processes)


def test_validation_images_are_never_trained_on():
    course, _ = course_of(Order(ROW, "ours"), parts(), Processes(Setup(cpu=True)))
    assert course.validation is not None
    assert not set(course.train.indices) & set(course.validation.indices)
    plain = row(phases=[{"optimizer": "sgd", "lr": 0.1, "epochs": 1}])  # nothing is judged: all are trained on
    course, _ = course_of(Order(plain, "ours"), parts(), Processes(Setup(cpu=True)))
    assert course.validation is None and len(course.train) == 64
