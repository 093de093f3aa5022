"""A standby: keeps up without holes, or follows anew; the union of what it knew is kept."""

import pytest

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.filter import VoteFilter
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.standby import Standby
from airflow_kafka_exactly.protocol.votes import Digests
from airflow_kafka_exactly.settings import FilterSettings

SETTINGS = FilterSettings(capacity=2000, error_rate=0.001)


def ids(start: int, stop: int) -> Digests:
    return range_digests("c", Partition("id", 0, "t"), OffsetRange(start, stop))


def snapshot(start: int, stop: int, sequence: int) -> tuple[str, int, bytes]:
    votes = VoteFilter(SETTINGS)
    votes.add(ids(start, stop))
    return ("g", sequence, votes.to_bytes())


def test_it_acknowledges_with_what_it_had_known() -> None:
    standby = Standby(SETTINGS)
    standby.load([snapshot(0, 100, 4)])
    assert standby.add("g", 5, ids(50, 150)).tolist() == [True] * 50 + [False] * 50
    assert standby.add("new group", 1, ids(0, 10)).tolist() == [False] * 10
    assert standby.filters["g"].test(ids(0, 150)).all()


def test_a_hole_between_additions_is_no_sync() -> None:
    standby = Standby(SETTINGS)
    standby.load([snapshot(0, 100, 4)])
    with pytest.raises(Unavailable, match="follow anew"):
        standby.add("g", 6, ids(0, 10))
    standby.load([snapshot(0, 100, 6)])
    assert standby.add("g", 7, ids(0, 10)).all()


def test_an_addition_that_the_snapshot_holds_already_does_no_harm() -> None:
    standby = Standby(SETTINGS)
    standby.load([snapshot(0, 100, 4)])
    assert standby.add("g", 3, ids(0, 100)).all()
    assert standby.add("g", 5, ids(100, 101)).tolist() == [False]


def test_loading_keeps_what_it_knew_and_the_new_leader_did_not() -> None:
    standby = Standby(SETTINGS)
    standby.load([snapshot(0, 100, 1)])
    standby.load([snapshot(100, 200, 1)])
    assert standby.filters["g"].test(ids(0, 200)).all()


def test_its_memory_is_bounded_however_long_it_follows() -> None:
    standby = Standby(SETTINGS)
    for n in range(20):
        standby.load([snapshot(1000 * n, 1000 * n + 900, 1)])
        standby.add("g", 2, ids(1000 * n, 1000 * (n + 1)))
        assert standby.filters["g"].generations <= 4
    assert standby.filters["g"].test(ids(19_000, 20_000)).all()
