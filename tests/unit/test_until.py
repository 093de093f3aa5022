"""When a member is done, and what is no work: `until`, `max_records`, `idle_timeout`, and a gap in the log."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from fakes import eventually
from members import GROUP, TOPIC, Members

from airflow_kafka_exactly.protocol.claims import LifeKind
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord, Record
from airflow_kafka_exactly.protocol.votes import BallotAnswer
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.polling import HeldPart
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.voting import VotedBatch
from airflow_kafka_exactly.runtime.waiting import await_work


@pytest.mark.parametrize("partitions", [1, 3])
def test_max_records_is_what_is_run(partitions: int) -> None:
    """A batch held a thousand, and all of it was run."""
    seen: list[Record] = []
    with Members(partitions=partitions, member={"max_batch_records": 1000}) as world:
        for number in range(partitions):
            for _ in range(500):
                world.broker.produce(TOPIC, b"x", number=number)
        ran = world.run(UserFunction(apply=seen.append), Until(to_end=False, max_records=10))
        assert ran.ended() is Ending.MAX_RECORDS
        assert len(seen) == 10
        assert sum(c.offset for c in world.broker.group(GROUP).offsets.values()) == 10
        world.run(UserFunction(apply=seen.append))
    assert Counter((r.partition, r.offset) for r in seen) == Counter(
        (number, offset) for number in range(partitions) for offset in range(500)
    )


def test_a_voted_batch_is_cut_at_a_record_and_leaves_no_hole() -> None:
    def part(number: int, *offsets: int) -> HeldPart:
        records = tuple(RawRecord(o, None, None, (), 0) for o in offsets)
        return HeldPart(PartitionBatch(Partition("t", number, "t"), OffsetRange(0, 9), records), 1)

    votes = (np.arange(3, dtype=np.uint8), np.arange(0, dtype=np.uint8), np.arange(2, dtype=np.uint8))
    batch = VotedBatch((part(0, 1, 4, 6), part(1), part(2, 3, 8)), BallotAnswer(7, votes))
    for at in range(6):
        head, tail = batch.cut(at)
        assert len(head) == min(at, 5)
        assert (tail is None) is (at >= 5)
        pieces = [*head.parts, *(tail.parts if tail else ())]
        for number in range(3):
            ranges = [p.batch.range for p in pieces if p.batch.partition.number == number]
            assert (ranges[0].start, ranges[-1].stop) == (0, 9)
            assert all(a.stop == b.start for a, b in pairwise(ranges))
        for one in (head, tail):
            for held, vote in zip(one.parts if one else (), one.answer.votes if one else (), strict=True):
                assert len(vote) == len(held.batch.records)
    assert batch.cut(None) == (batch, None)


def test_until_end_does_not_wait_for_a_topic_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Deleted and made again under the same name while it runs: the ends seen at the start are never reached."""
    seen: list[Record] = []
    go_on = threading.Event()

    def apply(record: Record) -> None:
        seen.append(record)
        if len(seen) == 5:
            go_on.wait(20)

    with Members(member={"max_batch_records": 5}) as world:
        world.produce(200)
        running = world.start(UserFunction(apply=apply), world.until_end())
        eventually(lambda: len(seen) == 5)
        world.broker.delete_topic(TOPIC)
        world.broker.create_topic(TOPIC)
        world.produce(20, b"new")
        go_on.set()
        assert running.ended() is Ending.END
    assert [r.offset for r in seen if r.value == b"new"] == list(range(20))
    assert "are not waited for: topic[0]" in caplog.text


def test_offsets_without_a_record_wake_no_worker() -> None:
    """A producer that aborts each transaction would send the task of a quiet topic to a worker again and again."""
    with Members() as world, world.membership(kind=LifeKind.TRIGGER) as waiting:
        threading.Timer(0.5, lambda: world.broker.gap(TOPIC, 0, 3)).start()
        ending = await_work(waiting, Until(to_end=False, idle_timeout_s=2.0), 0.0)
        assert ending is Ending.IDLE_TIMEOUT
        world.produce(1)
        assert await_work(waiting, Until(to_end=False, idle_timeout_s=20.0), 0.0) is Ending.RECORDS


def test_offsets_without_a_record_are_work_when_the_end_is_behind_them() -> None:
    """They came with a partition whose former owner had not settled them: `until="end"` waits for the frontier."""
    with Members() as world:
        world.broker.gap(TOPIC, 0, 3)
        with world.membership(kind=LifeKind.TRIGGER) as waiting:
            assert await_work(waiting, world.until_end(), 0.0) is Ending.RECORDS


def test_offsets_without_a_record_do_not_put_off_the_idle_timeout() -> None:
    with Members() as world:
        world.produce(1)
        running = world.start(UserFunction(apply=lambda _: None), Until(to_end=False, idle_timeout_s=2.0))
        stop = threading.Event()

        def abort_transactions() -> None:
            while not stop.wait(0.3):
                world.broker.gap(TOPIC, 0, 2)

        aborting = threading.Thread(target=abort_transactions)
        aborting.start()
        try:
            assert running.join(20).ended() is Ending.IDLE_TIMEOUT
        finally:
            stop.set()
            aborting.join()
        assert world.frontier() > 1, "gaps are settled all the same"
