"""What the client hands out is believed in no order but a growing one (S1, S2)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from brokers import MemoryCluster, TestMember, settings
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st
from scripted_kafka import Scene, Step, fetched, ranges, record

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.protocol.sequence import Taken, take


def raw(*offsets: int) -> list[RawRecord]:
    return [RawRecord(offset, None, b"%d" % offset, (), 0) for offset in offsets]


def end(offset: int) -> Message:
    return Message(topic="t", partition=0, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))


def then_end(*offsets: int, at: int, again: tuple[int, ...] = ()) -> Step:
    return lambda: [*map(record, offsets), end(at), *map(record, again)]


@pytest.mark.parametrize(
    ("polled", "taken"),
    [
        ((fetched(0), fetched(1, 2, 1, 2, 3)), (OffsetRange(0, 4), [0, 1, 2, 3])),
        ((fetched(0), fetched(0, 1, 2)), (OffsetRange(0, 3), [0, 1, 2])),
        ((fetched(0), fetched(1, 2, 3, 1)), (OffsetRange(0, 4), [0, 1, 2, 3])),
        ((fetched(0), then_end(1, at=2, again=(0, 1, 2))), (OffsetRange(0, 3), [0, 1, 2])),
    ],
    ids=["in the middle", "the first", "to an earlier end", "over an end"],
)
def test_s1_a_record_that_the_client_hands_out_twice_in_one_poll_is_taken_once(
    monkeypatch: pytest.MonkeyPatch, polled: tuple[Step, ...], taken: tuple[OffsetRange, list[int]]
) -> None:
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.then(*polled)
    one.poll()
    assert ranges(one) == [("old", *taken)]


def test_s1_a_record_of_an_earlier_poll_is_not_taken_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.then(fetched(0), fetched(1, 2), fetched(1), fetched(2))
    one.poll()
    one.poll()
    assert ranges(one) == [("old", OffsetRange(0, 3), [0, 1, 2])]
    assert "2 records" in caplog.text


@pytest.mark.parametrize(
    "disordered", [fetched(5, 1, 2), then_end(1, at=5, again=(2,))], ids=["records", "an end"]
)
def test_s2_a_client_that_goes_back_to_what_it_passed_over_must_fetch_again(
    monkeypatch: pytest.MonkeyPatch, disordered: Step
) -> None:
    """What it passed over looked like a gap, and would be settled as one."""
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.client.positions[0] = 9  # where the client stands is not what counts
    scene.then(fetched(0), disordered)
    one.poll()
    assert one.batches == []
    assert scene.client.positions == {0: 0}
    scene.then(fetched(0), fetched(1, 2, 3, 4, 5))
    one.poll()
    assert ranges(one) == [("old", OffsetRange(0, 6), [0, 1, 2, 3, 4, 5])]


@pytest.mark.parametrize("at", [2, 3])
def test_an_end_below_what_was_read_is_not_the_end(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    scene = Scene()
    one = scene.member(monkeypatch)
    scene.then(fetched(0), then_end(1, 2, at=at))
    one.poll()
    assert ranges(one) == [("old", OffsetRange(0, 3), [0, 1, 2])]
    assert bool(one.at_end) is (at == 3)


@given(
    position=st.integers(0, 5),
    offsets=st.lists(st.integers(0, 12), max_size=12),
    ends=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=2),
)
def test_s1_whatever_comes_in_whatever_order(
    position: int, offsets: list[int], ends: list[tuple[int, int]]
) -> None:
    """Each offset at most once and in order; and none that came is inside a gap."""
    told = sorted((min(count, len(offsets)), offset) for count, offset in ends)
    taken = take(position, raw(*offsets), told)
    if taken is None:
        return
    kept = [r.offset for r in taken.records]
    assert all(a < b for a, b in pairwise(kept))
    assert set(kept) == {o for o in offsets if o >= position}
    assert position <= taken.stop
    assert all(position <= o < taken.stop for o in kept)
    assert taken.surplus == len(offsets) - len(kept)


def test_what_comes_in_order_is_taken_whole() -> None:
    assert take(3, raw(3, 5, 9), [(3, 12)]) == Taken(tuple(raw(3, 5, 9)), 12, at_end=True)


@pytest.mark.parametrize("offsets", [(0, 1, 1), (0, 2, 1, 3)])
def test_s1_a_batch_holds_each_offset_once_and_in_order(offsets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not grow"):
        PartitionBatch(Partition("t", 0, "topic"), OffsetRange(0, 9), tuple(raw(*offsets)))


def test_s1_the_broker_in_memory_can_hand_out_twice_and_out_of_order() -> None:
    """So that the simulator can."""
    cluster = MemoryCluster()
    topic = cluster.topic()
    cluster.produce(topic, *(b"%d" % i for i in range(6)))
    one = TestMember(cluster.consumers(settings(cluster, topic)))
    cluster.broker.hand_out(topic, 0, lambda records: [*records[:2], *records])
    one.poll_until(lambda: one.stop_of() == 3, max_records=3)
    cluster.broker.hand_out(topic, 0, lambda records: records[::-1])
    one.poll_until(lambda: one.stop_of() == 6)
    assert [r.offset for r in one.records()] == [0, 1, 2, 3, 4, 5]
