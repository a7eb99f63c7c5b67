"""Two `wavemix search` of one study on two machines: one searches and confirms, attempts are counted through."""

import threading
import time

import pytest
from toys import Training, engine

from search.errors import UserError
from search.study import heartbeat
from search.study.claim import Claim
from search.study.trial import Unfinished


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    monkeypatch.setattr(heartbeat, "GRACE", 0.6)
    monkeypatch.setattr("search.study.claim.POLL", 0.02)


@pytest.fixture
def machines(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    with engine(tmp_path / "a", storage=url) as one, engine(tmp_path / "b", storage=url) as other:
        yield one, other


def test_the_second_one_is_refused_while_the_first_lives(machines):
    one, other = machines
    with one.claim.held():
        with pytest.raises(UserError, match="another machine's `wavemix search` works on this study already"):
            with other.claim.held():
                pass
    with other.claim.held():
        pass


def test_of_two_that_start_at_once_one_is_refused(machines):
    started, held, refused = threading.Barrier(2), [], []

    def run(search):
        started.wait()
        try:
            with search.claim.held():
                held.append(search)
                time.sleep(0.5)
        except UserError:
            refused.append(search)

    threads = [threading.Thread(target=run, args=(search,)) for search in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == len(refused) == 1


def test_a_dead_ones_place_is_taken_after_a_while(machines):
    one, other = machines
    one.storage.set_study_user_attr(one.store.study_id, one.claim.key, {"ticket": 1, "beat": "long ago"})
    start = time.monotonic()
    with other.claim.held():
        assert time.monotonic() - start > heartbeat.GRACE


def test_one_that_was_taken_for_dead_gives_up(machines, monkeypatch):
    """It was stopped for minutes, say."""
    one, other = machines
    Training(monkeypatch)
    monkeypatch.setattr(Claim, "_renew", lambda self: None)
    with one.claim.held(), other.claim.held():
        with pytest.raises(Unfinished, match="has taken over the study toy"):
            one.obey()
        other.obey()


def test_confirmations_of_another_machine_are_known(machines):
    from samples import confirmation

    one, other = machines
    record = confirmation([0.9, 0.91], study="toy")
    assert one.store.shared([record]) == [record] == one.store.shared([record])
    assert other.store.shared([]) == [record] and other.store.shared([record]) == [record]
    foreign = confirmation([0.9, 0.91], study="another")
    assert one.store.shared([foreign]) == [foreign, record] and other.store.shared([]) == [record]
