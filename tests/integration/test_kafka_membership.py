"""A member that polls is never evicted, and a group that works is never disturbed."""

import json
import threading
import time
from pathlib import Path

import pytest
from brokers import RealCluster, TestMember, all_owned, eventually, settings
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from airflow_kafka_exactly.adapters.kafka import KafkaConsumers
from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.protocol.claims import CommitCode

pytestmark = pytest.mark.integration


class Rebalances:
    """Counts what the client says of its group, from its statistics."""

    def __init__(self) -> None:
        self.count = 0

    def config(self) -> dict[str, object]:
        return {"statistics.interval.ms": 100, "stats_cb": self._told}

    def _told(self, statistics: str) -> None:
        self.count = max(self.count, json.loads(statistics).get("cgrp", {}).get("rebalance_cnt", 0))


def test_case_08_trickling_records_cause_no_rebalance(kafka: str) -> None:
    cluster, seen = RealCluster(kafka), Rebalances()
    topic = cluster.topic(2)
    ours = settings(cluster, topic, config=seen.config())
    other = settings(cluster, topic, group_id=ours.group_id)
    one, two = (
        TestMember(cluster.consumers(ours), "dag.task[0]"),
        TestMember(cluster.consumers(other), "dag.task[1]"),
    )
    one.poll_until(lambda: two.poll() and all_owned([one, two], 2), within_s=30)
    eventually(lambda: one.poll() and two.poll() and seen.count > 0)
    before, told = seen.count, (len(one.told), len(two.told))
    for at in range(100):
        cluster.produce(topic, b"%d" % at, number=at % 2)
        one.poll(timeout_s=0.02)
        two.poll(timeout_s=0.02)
        if at % 25 == 10:  # the second slot goes from trigger to worker and back
            two.consumer.close()
            starts = {b.partition.number: two.stop_of(b.partition.number) for b in two.batches}
            fresh = TestMember(cluster.consumers(other), "dag.task[1]")
            fresh.starts, fresh.batches = starts, two.batches
            two = fresh
    eventually(lambda: one.poll() and two.poll() and len(one.values() + two.values()) == 100)
    assert len(set(one.values() + two.values())) == 100
    eventually(
        lambda: (
            one.poll()
            and two.poll()
            and one.stop_of() + two.stop_of(1) + one.stop_of(1) + two.stop_of() == 100
        )
    )
    assert seen.count == before, "a handover is no change of membership"
    assert len(one.told) == told[0]
    for member in (one, two):
        member.consumer.close()


def test_case_27_polling_goes_on_while_a_function_runs_longer_than_max_poll_interval(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic()
    cluster.produce(topic, b"a", b"b")
    member = TestMember(cluster.consumers(settings(cluster, topic, config={"max.poll.interval.ms": 6000})))
    member.poll_until(lambda: member.stop_of() == 2)
    partition, finished = member.batches[0].partition, threading.Event()
    timer = threading.Timer(9, finished.set)  # the user's function
    timer.start()
    member.consumer.pause()
    member.poll_until(finished.is_set)
    member.consumer.resume()
    timer.join()
    assert member.told == [("assigned", frozenset({0}))]
    assert member.consumer.commit({partition: (2, 1)})[partition][0] is CommitCode.ACCEPTED
    cluster.produce(topic, b"c")
    member.poll_until(lambda: member.stop_of() == 3)
    assert member.values() == [b"a", b"b", b"c"]
    member.consumer.close()


def test_case_29_a_member_that_does_not_poll_loses_its_partitions_and_no_offset_leaves(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic()
    cluster.produce(topic, b"a")
    member = TestMember(cluster.consumers(settings(cluster, topic, config={"max.poll.interval.ms": 6000})))
    member.poll_until(lambda: member.stop_of() == 1)
    partition = member.batches[0].partition
    answers: list[object] = []
    lost = member.lost

    def remember(partitions: object) -> None:
        lost(partitions)  # type: ignore[arg-type]
        answers.append(member.consumer.commit({partition: (1, 1)})[partition])

    member.lost = remember  # type: ignore[method-assign]
    time.sleep(8)  # what max.poll.interval.ms forbids
    member.poll_until(lambda: len(member.told) >= 3, within_s=30)
    assert [kind for kind, _ in member.told] == ["assigned", "lost", "assigned"]
    assert answers == [(CommitCode.ORPHAN, "NOT_ASSIGNED")]
    assert cluster.admin().committed(_group(member), [partition]) == {}
    member.consumer.close()


def _group(member: TestMember) -> str:
    return str(member.consumer._openings._settings.group_id)  # type: ignore[attr-defined]


def test_an_offset_commit_from_another_thread_passes_while_polling(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic()
    member = TestMember(cluster.consumers(settings(cluster, topic)))
    member.poll_until(lambda: member.owns(0))
    (partition,) = member.consumer.assignment()
    answers: list[object] = []

    def commit() -> None:
        answers.extend(member.consumer.commit({partition: (n, n)})[partition][0] for n in range(1, 101))

    thread = threading.Thread(target=commit)
    thread.start()
    cluster.produce(topic, *(b"%d" % n for n in range(200)))
    member.poll_until(lambda: not thread.is_alive())
    member.poll_until(lambda: member.stop_of() == 200)
    assert answers == [CommitCode.ACCEPTED] * 100
    assert cluster.admin().committed(_group(member), [partition]) == {partition: 100}
    member.consumer.close()


class FailsAfterTaking:
    """A client that takes messages from its queue and then fails, every third time."""

    def __init__(self, real: Consumer) -> None:
        self.real, self.calls = real, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        messages = self.real.consume(count, timeout_s)
        self.calls += bool(messages)
        if messages and self.calls % 3 == 0:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return messages


def test_a_poll_that_fails_half_way_leaves_no_hole(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic(2)
    for number in range(2):
        cluster.produce(topic, *(b"%d" % n for n in range(500)), number=number)
    member = TestMember(cluster.consumers(settings(cluster, topic)))
    client = member.consumer._client  # type: ignore[attr-defined]
    client._raw = failing = FailsAfterTaking(client._raw)
    member.poll_until(lambda: member.stop_of(0) == member.stop_of(1) == 500, max_records=50)
    assert failing.calls > 6
    for number in range(2):
        offsets = [r.offset for b in member.batches if b.partition.number == number for r in b.records]
        assert offsets == list(range(500))
    member.consumer.close()


def assigned_by_kafka(member: TestMember) -> set[str]:
    return {tp.topic for tp in member.consumer._client._raw.assignment()}  # type: ignore[attr-defined]


def test_a_topic_taken_out_of_topics_is_neither_read_nor_committed_while_the_place_still_holds_it(
    kafka: str,
) -> None:
    cluster = RealCluster(kafka)
    kept, gone = cluster.topic(2), cluster.topic()
    both = settings(cluster, kept, gone)
    cluster.produce(gone, b"before")
    old = TestMember(cluster.consumers(both))
    old.poll_until(lambda: len(old.consumer.assignment()) == 3 and old.values() == [b"before"])
    (left,) = {p for p in old.consumer.assignment() if p.topic == gone}
    assert old.consumer.commit({left: (1, 1)})[left][0] is CommitCode.ACCEPTED
    old.consumer.close()

    ours = settings(cluster, kept, group_id=both.group_id)
    member = TestMember(cluster.consumers(ours))
    cluster.produce(gone, b"of the topic that is gone")
    cluster.produce(kept, b"1")
    member.poll_until(lambda: member.values() == [b"1"])
    assert assigned_by_kafka(member) == {kept, gone}, (
        "the place is taken over as it was, so this tests something"
    )
    cluster.produce(kept, b"2")
    member.poll_until(lambda: member.values() == [b"1", b"2"])
    assert {p.topic for p in member.consumer.assignment()} == {kept}
    assert {opening.partition.topic for opening in member.openings.values()} == {kept}
    assert member.consumer.commit({left: (2, 2)})[left][0] is CommitCode.ORPHAN

    other = TestMember(cluster.consumers(ours), "dag.task[1]")  # makes Kafka assign anew
    member.poll_until(lambda: other.poll() and all_owned([member, other], 2), within_s=30)
    cluster.produce(gone, b"of the topic that is gone")
    last = {0: b"last of 0", 1: b"last of 1"}
    for number, value in last.items():
        cluster.produce(kept, value, number=number)

    def read() -> set[bytes | None]:
        return {*member.values(), *other.values()}

    eventually(lambda: member.poll() and other.poll() and read() >= {*last.values()})
    assert read() == {b"1", b"2", *last.values()}
    assert cluster.admin().committed(ours.group_id, [left]) == {left: 1}
    for one in (member, other):
        one.consumer.close()


def client_threads() -> int:
    """Consumers and admin clients that live in this process: each has one main thread."""
    return sum("rdk:main" in comm.read_text() for comm in Path("/proc/self/task").glob("*/comm"))


def test_case_07_a_closed_consumer_is_gone_with_its_threads(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic(2)
    consumers = cluster.consumers(settings(cluster, topic))
    failures = [RuntimeError("told while it was assigned")]
    member = TestMember(consumers)
    member.poll_until(lambda: member.owns(0, 1))
    before = client_threads()
    kept = []  # an exception whose traceback has seen the consumer
    other = TestMember(consumers, "dag.task[1]")

    def fail(_: object) -> None:
        raise failures[0]

    member.on_revoke = member.on_assign = other.on_assign = fail
    try:
        other.poll_until(lambda: member.poll() and other.batches, within_s=30)
    except RuntimeError as error:
        kept.append(error)
    assert kept
    assert client_threads() > before
    other.consumer.close()
    eventually(lambda: client_threads() <= before)
    member.consumer.close()
    eventually(lambda: client_threads() < before)


def test_case_07_a_close_while_a_rebalance_is_due_stops_nobody(kafka: str) -> None:
    """The client's own close would wait without end for its main thread, holding the interpreter's lock."""
    cluster = RealCluster(kafka)
    topic = cluster.topic(4)
    consumers = cluster.consumers(settings(cluster, topic))
    for _ in range(10):
        old = TestMember(consumers)
        old.poll_until(lambda old=old: old.owns(0, 1, 2, 3))
        new = TestMember(consumers)
        new.poll_until(lambda new=new: new.owns(0, 1, 2, 3))
        with pytest.raises(Fenced):
            old.poll_until(lambda: False)
        old.consumer.close()
        new.consumer.close()


def test_case_07_a_consumer_closed_before_it_ever_polled_ends_too(kafka: str) -> None:
    """Its assignment still waits for the callback; the client's main thread would wait for that without end, busily."""
    cluster = RealCluster(kafka)
    topic = cluster.topic(2)
    ours = settings(cluster, topic)
    admin = cluster.admin()
    eventually(lambda: admin.instances(ours.group_id) == ())
    consumers = KafkaConsumers(ours)
    consumers.admin.cluster_id()  # its client is there from now on
    before = client_threads()
    member = TestMember(consumers)
    eventually(lambda: admin.instances(ours.group_id))
    time.sleep(1)  # the assignment follows without a sign that could be waited for
    begun = time.monotonic()
    member.consumer.close()
    assert time.monotonic() - begun < 2
    assert member.told == []
    eventually(lambda: client_threads() <= before)
