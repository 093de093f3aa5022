"""Reservations: nobody else is told fresh until the slot claims, drops or is fenced (S6)."""

import numpy as np

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.reservations import Reservations

P0, P1 = Partition("t", 0, "t"), Partition("t", 1, "t")


def some(*offsets: int) -> np.ndarray:
    return np.array(offsets, dtype=np.int64)


def reserve(held: Reservations, slot: str, *offsets: int, partition: Partition = P0) -> None:
    held.reserve(slot, partition, some(*offsets), np.ones(len(offsets), dtype=np.bool_))


def test_s6_a_reservation_binds_other_slots_only() -> None:
    held = Reservations()
    reserve(held, "a", 1, 2, 3)
    assert held.holds_for_others("b", P0, some(0, 1, 3, 4)).tolist() == [False, True, True, False]
    assert not held.holds_for_others("a", P0, some(0, 1, 3, 4)).any()
    assert not held.holds_for_others("b", P1, some(1, 2)).any()


def test_the_first_slot_keeps_what_a_second_asks_for() -> None:
    held = Reservations()
    reserve(held, "a", 2, 3)
    reserve(held, "b", 1, 2, 3, 4)
    assert held.holds_for_others("b", P0, some(1, 2, 3, 4)).tolist() == [False, True, True, False]
    assert held.holds_for_others("a", P0, some(1, 2, 3, 4)).tolist() == [True, False, False, True]


def test_only_the_chosen_are_reserved() -> None:
    held = Reservations()
    held.reserve("a", P0, some(1, 2, 3, 9), np.array([True, False, True, True]))
    assert list(held.ranges()) == [(P0, OffsetRange(1, 2)), (P0, OffsetRange(3, 10))]


def test_a_slot_that_reads_in_order_needs_one_range_however_many_batches() -> None:
    held = Reservations()
    for start in range(0, 10_000, 100):
        reserve(held, "a", *range(start, start + 100))
    assert len(held) == 1


def test_neighbours_merge_on_both_sides() -> None:
    held = Reservations()
    reserve(held, "a", 1)
    reserve(held, "a", 3)
    reserve(held, "b", 4)
    reserve(held, "a", 2)
    assert list(held.ranges()) == [(P0, OffsetRange(1, 4)), (P0, OffsetRange(4, 5))]


def test_dropped_partitions_are_free_and_others_stay() -> None:
    held = Reservations()
    reserve(held, "a", 1)
    reserve(held, "b", 2)
    reserve(held, "a", 1, partition=P1)
    held.free("a", [P0])
    assert not held.holds_for_others("c", P0, some(1)).any()
    assert held.holds_for_others("c", P0, some(2)).all()
    assert held.holds_for_others("c", P1, some(1)).all()
    assert held.slots() == {"a", "b"}
    held.free("unknown", [P0])
    held.free("a")
    assert held.slots() == {"b"}


def test_the_frontier_trims() -> None:
    held = Reservations()
    reserve(held, "a", *range(10))
    reserve(held, "b", *range(20, 30))
    held.passed({P0: 5, P1: 7})
    assert list(held.ranges()) == [(P0, OffsetRange(5, 10)), (P0, OffsetRange(20, 30))]
    held.passed({P0: 30})
    assert len(held) == 0
