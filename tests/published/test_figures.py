import csv

import pytest

from search.published import figures as published
from search.published.figures import Figure, Peer, figures, peers, protocols
from search.report.benchmark import STATED
from search.upstream import PUBLISHED, SAVED, WITHDRAWN


def test_every_figure_names_a_network_and_a_script_that_there_are():
    for figure in figures():
        assert figure.audit is None or figure.audit in STATED
        assert figure.audit is None or not figure.network, "a network that is audited is named there"
        assert figure.protocol is None or figure.protocol in protocols()
        assert figure.source and figure.flags
    assert {figure.protocol for figure in figures()} - {None} == set(protocols()), "each script is behind a row"


def test_every_stated_network_stands_in_the_figures():
    """But for the two examples of the README that no figure is published for."""
    audited = {figure.audit for figure in figures()}
    missing = [saved.row for saved in SAVED if saved.row not in audited]
    assert missing == ["Super-resolution example"]
    assert all(f"{row.task}: {row.model}" in audited for row in (*PUBLISHED, *WITHDRAWN))


def test_a_saved_networks_row_says_its_figure():
    for figure in figures():
        if figure.audit and isinstance(figure.stated, float) and not figure.metric.endswith("at least"):
            digits = figure.audit.split()[-1]
            assert digits == "example" or float(digits) == figure.value


def test_conflicts_stand_on_both_sides():
    for data, pair in (("Places-365", {56.45, 54.94}), ("CIFAR-10", {97.29, 95.98})):
        mine = [figure for figure in figures() if figure.data == data and figure.value in pair]
        assert {figure.value for figure in mine} == pair
        for figure in mine:
            (other,) = pair - {figure.value}
            assert str(other) in figure.against.split("; ")


def test_what_was_not_read_is_said():
    unread = [figure for figure in figures() if not figure.read]
    second_hand = ("excerpt", "leaderboard", "badge")
    assert all(any(word in figure.source for word in second_hand) for figure in unread) and unread
    assert {figure.stated for figure in figures() if figure.value is None} == {"no figure found"}


def test_scripts_have_their_flags():
    """What the benchmark table says in a few words is what the script's own line says."""
    for script in protocols().values():
        assert "chosen on test" in script.flags
        assert ("mean of batch means" in script.flags) == (script.metric.startswith("top-1"))
        assert ("ImageNet weights" in script.flags) == script.start.startswith("ImageNet")
        assert ("rerun contaminated" in script.flags) == script.rerun.startswith("contaminated")


def test_peers():
    found = {peer.network: peer for peer in peers()}
    thrifty = found["ThriftyNet"]
    assert thrifty.bounds == "fewer than 40,000 parameters; more than 91" and found["FSRCNN"].bounds == ""
    unread = {peer.network for peer in peers() if peer.target and peer.read == "not read"}
    assert unread == {"muNAS", "LEMONADE"} and all(found[name].chosen for name in found)
    assert [p.target for p in peers() if p.task != "classification"] == [None] * 10
    assert all(peer.target <= peer.figure for peer in peers() if peer.target), "a peer of a target has reached it"


@pytest.mark.parametrize(
    ("name", "kind", "column", "bad"),
    [("figures.csv", Figure, "read", "maybe"), ("figures.csv", Figure, "value", "123"),
     ("peers.csv", Peer, "parameters_are", "about"), ("peers.csv", Peer, "parameters", "-1")],
)  # fmt: skip
def test_a_row_that_says_something_else_is_refused(name, kind, column, bad):
    with (published.HERE / name).open(newline="") as file:
        row = next(csv.DictReader(file))
    kind.model_validate(row)
    with pytest.raises(ValueError, match=column):
        kind.model_validate(row | {column: bad})
