"""What a member holds between polling and claiming."""

import threading

from airflow_kafka_exactly.ports import Polled
from airflow_kafka_exactly.protocol.record import (
    OffsetRange,
    Partition,
    PartitionBatch,
    RawRecord,
    held_bytes,
)
from airflow_kafka_exactly.runtime.polling import Hand, HeldPart

P, Q = Partition("t", 0, "topic"), Partition("t", 1, "topic")


def part(partition: Partition, start: int, stop: int, offsets: range | None = None) -> PartitionBatch:
    chosen = range(start, stop) if offsets is None else offsets
    records = tuple(RawRecord(o, None, b"x" * 10, (), 0) for o in chosen)
    return PartitionBatch(partition, OffsetRange(start, stop), records)


def hand_with(*parts: PartitionBatch) -> Hand:
    hand = Hand(held_bytes(part(P, 0, 100).records))
    hand.assigned({p.partition for p in parts} or {P})
    hand.polled(Polled(parts))
    return hand


def test_ranges_of_one_partition_are_joined_without_a_hole() -> None:
    hand = hand_with(part(P, 0, 3), part(P, 3, 7, range(4, 6)))
    (taken,) = hand.take(100)
    assert taken.batch.range == OffsetRange(0, 7)
    assert [r.offset for r in taken.batch.records] == [0, 1, 2, 4, 5]


def test_a_batch_is_cut_at_a_record_and_the_rest_follows_without_a_hole() -> None:
    hand = hand_with(part(P, 0, 10))
    (first,), (second,) = hand.take(4), hand.take(100)
    assert (first.batch.range, second.batch.range) == (OffsetRange(0, 4), OffsetRange(4, 10))
    assert hand.take(100) == ()


def test_each_partition_gets_its_turn() -> None:
    hand = hand_with(part(P, 0, 10), part(Q, 0, 10))
    assert [p.batch.partition for p in (*hand.take(5), *hand.take(5))] == [P, Q]


def test_polling_stops_at_the_prefetch_limit_and_goes_on_at_half_of_it() -> None:
    hand = hand_with(part(P, 0, 101))
    assert hand.full
    assert not hand.roomy
    hand.take(60)
    assert not hand.full
    assert hand.roomy


def test_s2_nothing_of_a_lost_partition_is_taken_up() -> None:
    hand = hand_with(part(P, 0, 3))
    (held,) = hand.take(100)
    hand.gone([P])
    assert hand.hold([held]) == (False,)
    assert not hand.ours(held.tenure)


def test_a_partition_that_comes_back_is_another_tenure() -> None:
    hand = hand_with(part(P, 0, 3))
    (old,) = hand.take(100)
    hand.gone([P])
    hand.assigned([P])
    hand.polled(Polled((part(P, 0, 3),)))
    (new,) = hand.take(100)
    assert hand.hold([old, new]) == (False, True)


def test_case_29_a_revoke_waits_for_what_is_in_hand_and_takes_up_nothing_new() -> None:
    hand = hand_with(part(P, 0, 3))
    (held,) = hand.take(100)
    assert hand.hold([held]) == (True,)
    hand.leaving([P])
    assert not hand.ours(held.tenure)
    hand.polled(Polled((part(P, 3, 6),)))
    assert hand.take(100) == ()
    assert not hand.await_idle([P], timeout_s=0)
    threading.Timer(0.01, hand.release, [P]).start()
    assert hand.await_idle([P], timeout_s=10)


def test_a_revoke_does_not_wait_for_other_partitions() -> None:
    hand = hand_with(part(P, 0, 3), part(Q, 0, 3))
    hand.hold([p for p in hand.take(100) if p.batch.partition == Q])
    assert hand.await_idle([P], timeout_s=0)


def test_caught_up_needs_an_assignment_its_ends_and_nothing_pending() -> None:
    hand = Hand(1000)
    assert not hand.caught_up()
    hand.assigned([P])
    assert not hand.caught_up()
    hand.polled(Polled((part(P, 0, 1),), frozenset([P])))
    assert not hand.caught_up()
    hand.take(10)
    assert hand.caught_up()
    hand.polled(Polled((part(P, 1, 2),)))
    hand.take(10)
    assert not hand.caught_up()


def test_records_of_a_partition_that_is_not_ours_are_dropped() -> None:
    hand = Hand(1000)
    hand.assigned([P])
    hand.polled(Polled((part(Q, 0, 3),), frozenset([Q])))
    assert not hand.has_pending()
    assert not hand.at_end()
    assert hand.hold([HeldPart(part(Q, 0, 3), 2)]) == (False,)
