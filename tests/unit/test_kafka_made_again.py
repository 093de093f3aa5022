"""Kafka's client goes by name (H11): which records, fetched around a change, belong to which topic and which opening."""

from __future__ import annotations

import pytest
from confluent_kafka import Message
from scripted_kafka import Scene, fetched, ranges, record

from airflow_kafka_exactly.errors import TopicMissing, Unavailable
from airflow_kafka_exactly.protocol.record import OffsetRange


def test_h11_a_record_of_the_new_topic_is_never_one_of_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """However young the last look at the topic's id is: it may have been made again since."""
    scene = Scene()
    one = scene.member(monkeypatch, start=10)
    scene.then(fetched(10), fetched(11))
    one.poll()
    assert ranges(one) == [("old", OffsetRange(10, 12), [10, 11])]
    one.starts[0] = 0

    def made_again() -> list[Message]:
        scene.admin.topic_id = "new"
        return [record(12)]

    scene.then(made_again, fetched(13))
    one.poll()
    assert len(one.batches) == 1, "fetched by name, from the old position"
    assert ("lost", frozenset({0})) in one.told
    assert (scene.client.positions, scene.client.paused) == ({0: 0}, set())
    scene.then(fetched(0), fetched(1, 2))
    one.poll()
    assert ranges(one)[1:] == [("new", OffsetRange(0, 3), [0, 1, 2])]


@pytest.mark.parametrize("fault", [TopicMissing("t"), Unavailable("Kafka", "c", "down")])
@pytest.mark.parametrize("then_it_is", ["old", "new"])
def test_h11_records_wait_until_it_is_known_whose_they_are(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, then_it_is: str
) -> None:
    monkeypatch.setattr("airflow_kafka_exactly.adapters.kafka.topics._MISSING_S", 0.0)
    monkeypatch.setattr("airflow_kafka_exactly.adapters.kafka.topics._AFTER_FAILURE_S", 0.0)
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.admin.fault = fault
    scene.then(fetched(0), fetched(1))
    one.poll(timeout_s=0)
    one.poll(timeout_s=0)
    assert one.batches == []
    scene.admin.fault, scene.admin.topic_id = None, then_it_is
    one.poll()
    if then_it_is == "old":
        assert ranges(one) == [("old", OffsetRange(0, 2), [0, 1])]
    else:
        assert one.batches == []
        assert scene.client.positions == {0: 0}


def test_h11_an_assignment_asks_which_topic_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that was made again comes through a rebalance too; its id is not the one of a moment ago, and its records are all
    new."""
    scene = Scene()
    one = scene.member(monkeypatch)
    del one.starts[0]

    def made_again() -> list[Message]:
        scene.client.lost()
        scene.admin.topic_id, scene.admin.high = "new", 20
        scene.client.assigned()
        return []

    scene.then(made_again)
    one.poll()
    assert (one.openings[0].partition.topic_id, one.openings[0].start) == ("new", 0)
    assert scene.client.positions == {0: 0}


def test_a_topic_taken_out_of_topics_is_not_read_although_kafka_still_assigns_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a static place whose operator consumed more topics before: a raw `KeyError` ended the member."""
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.then(lambda: scene.client.assigned_too("former"), fetched(0), fetched(1))
    one.poll()
    one.poll()
    assert ranges(one) == [("old", OffsetRange(0, 2), [0, 1])]
    assert 3 in scene.client.paused
    assert "not consumed any more" in caplog.text


def test_nothing_taken_before_an_assignment_is_in_a_range_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message of a poll is from before a rebalance that comes with the rest: a range over it would have a hole."""
    scene = Scene()
    one = scene.member(monkeypatch, start=10)
    one.starts[0] = 5

    def moved_away_and_back() -> list[Message]:
        scene.client.lost()
        scene.client.assigned()
        return [record(5)]

    scene.then(fetched(10), moved_away_and_back)
    one.poll()
    assert one.batches == []
    assert scene.client.positions == {0: 5}
    scene.then(fetched(5), fetched(6))
    one.poll()
    assert ranges(one) == [("old", OffsetRange(5, 7), [5, 6])]


def test_an_assignment_that_cannot_be_opened_drops_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    one = scene.member(monkeypatch, start=10)
    failures = [RuntimeError("the ledger is away")]

    def fail(_: object) -> None:
        if failures:
            raise failures.pop()

    def moved_away_and_back() -> list[Message]:
        one.on_assign = fail
        scene.client.lost()
        scene.client.assigned()
        return []

    scene.then(fetched(10), moved_away_and_back)
    with pytest.raises(RuntimeError, match="ledger"):
        one.poll()
    one.starts[0] = 5
    one.poll()
    assert one.batches == []
    assert scene.client.positions == {0: 5}


def test_what_is_held_goes_with_its_partition_although_a_poll_takes_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held over from a poll that could not hand over; the next one's rebalance takes the partition away and brings it back."""
    scene = Scene()
    one = scene.member(monkeypatch, start=10)
    monkeypatch.setattr("airflow_kafka_exactly.adapters.kafka.topics._AFTER_FAILURE_S", 0.0)
    scene.admin.fault = Unavailable("Kafka", "c", "down")
    scene.then(fetched(10), fetched(11))
    one.poll(timeout_s=0)
    scene.admin.fault, one.starts[0] = None, 5

    def moved_away_and_back() -> list[Message]:
        scene.client.lost()
        scene.client.assigned()
        return [record(5)]

    scene.then(moved_away_and_back, fetched(6))
    one.poll()
    assert ranges(one) == [("old", OffsetRange(5, 7), [5, 6])]
