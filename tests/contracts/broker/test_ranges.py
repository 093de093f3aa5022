"""Ranges: from the previous stop to the next position, without a hole, whatever the log holds."""

from collections.abc import Callable

import pytest
from brokers import Cluster, TestMember, settings, unique

from airflow_kafka_exactly.errors import RecordsLost, TopicMissing
from airflow_kafka_exactly.protocol.record import OffsetRange

Member = Callable[..., TestMember]


def assert_no_hole(member: TestMember, start: int, stop: int, number: int = 0) -> None:
    expected = start
    for batch in (b for b in member.batches if b.partition.number == number):
        assert batch.range.start == expected, "a hole or an overlap between two ranges"
        offsets = [r.offset for r in batch.records]
        assert offsets == sorted(offsets)
        expected = batch.range.stop
    assert expected == stop


def test_each_record_is_in_one_range_and_the_end_is_told(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    for n in range(2):
        cluster.produce(topic, *(b"%d" % i for i in range(50)), number=n)
    one = member(settings(cluster, topic))
    one.poll_until(lambda: len(one.at_end) == 2, max_records=7)
    assert sorted(one.values()) == sorted([b"%d" % i for i in range(50)] * 2)
    assert_no_hole(one, 0, 50, 0)
    assert_no_hole(one, 0, 50, 1)
    assert all(len(p.records) <= 7 for p in one.batches)

    cluster.produce(topic, b"more", number=1)
    one.poll_until(lambda: one.stop_of(1) == 51)
    one.poll_until(lambda: len(one.at_end) == 2)
    assert_no_hole(one, 0, 51, 1)


def test_any_bytes_come_as_they_are(cluster: Cluster, member: Member) -> None:
    topic, bytes_ = cluster.topic(), bytes(range(256))
    cluster.produce(topic, bytes_, key=bytes_, headers=(("h", bytes_), ("h", b""), ("none", None)))
    cluster.produce(topic, None, key=b"")
    cluster.produce(topic, b"")
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.stop_of() == 3)
    first, tombstone, empty = one.records()
    assert (first.key, first.value) == (bytes_, bytes_)
    assert first.headers == (("h", bytes_), ("h", b""), ("none", None))
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"", None, ())
    assert (empty.key, empty.value, empty.headers) == (None, b"", ())
    assert isinstance(first.timestamp_ms, int)


def test_transaction_markers_and_aborted_records_leave_no_hole(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    cluster.transaction(topic, b"a", b"b", commit=True)  # 0, 1, marker 2
    cluster.transaction(topic, b"x", b"y", commit=False)  # 3, 4, marker 5
    cluster.produce(topic, b"c")  # 6
    cluster.transaction(topic, b"d", commit=True)  # 7, marker 8
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.at_end, max_records=1)
    assert one.values() == [b"a", b"b", b"c", b"d"]
    assert_no_hole(one, 0, 9)


def test_a_gap_alone_is_a_range_without_records(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.at_end)
    cluster.transaction(topic, b"x", b"y", commit=False)
    one.poll_until(lambda: one.stop_of() == 3)
    assert one.values() == []
    assert_no_hole(one, 0, 3)


def test_a_paused_member_gets_nothing_and_misses_nothing(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    one = member(settings(cluster, topic))
    for n in range(2):
        cluster.produce(topic, *(b"%d" % i for i in range(30)), number=n)
    one.poll_until(lambda: one.batches, max_records=5)
    one.consumer.pause()
    before = len(one.batches)
    for _ in range(5):
        one.poll()
    assert len(one.batches) == before
    one.consumer.resume()
    one.poll_until(lambda: one.stop_of(0) == one.stop_of(1) == 30, max_records=5)
    assert_no_hole(one, 0, 30, 0)
    assert_no_hole(one, 0, 30, 1)


def test_partitions_assigned_while_paused_are_paused(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    cluster.produce(topic, b"a")
    one = member(settings(cluster, topic))
    one.consumer.pause()
    one.poll_until(lambda: one.owns(0))
    for _ in range(5):
        one.poll()
    assert one.batches == []
    one.consumer.resume()
    one.poll_until(lambda: one.values() == [b"a"])


def test_reading_starts_where_the_listener_says(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    cluster.produce(topic, *(b"%d" % i for i in range(10)))
    one = member(settings(cluster, topic))
    one.starts[0] = 7
    one.poll_until(lambda: one.stop_of() == 10)
    assert one.values() == [b"7", b"8", b"9"]
    assert_no_hole(one, 7, 10)


def test_l2_what_retention_deleted_unread_stops_the_member(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    cluster.produce(topic, *(b"%d" % i for i in range(10)))
    cluster.delete_before(topic, 0, 6)
    one = member(settings(cluster, topic))
    one.starts[0] = 2
    with pytest.raises(
        RecordsLost, match=rf"offsets \[2, 6\) of {topic}\[0\] were deleted.*on_lost_records=\"skip\""
    ):
        one.poll_until(lambda: False)
    assert one.batches == []


def test_l2_what_retention_deleted_unread_is_told_before_it_is_a_gap(
    cluster: Cluster, member: Member
) -> None:
    topic = cluster.topic()
    cluster.produce(topic, *(b"%d" % i for i in range(10)))
    cluster.delete_before(topic, 0, 6)
    one = member(settings(cluster, topic, on_lost_records="skip"))
    one.starts[0] = 2
    one.poll_until(lambda: one.missed or one.batches)
    partition = one.openings[0].partition
    assert one.missed == {partition: OffsetRange(2, 6)}
    one.poll_until(lambda: one.stop_of() == 10)
    assert one.values() == [b"6", b"7", b"8", b"9"]
    assert_no_hole(one, 2, 10)


def test_a_new_partition_begins_at_its_beginning(cluster: Cluster, member: Member) -> None:
    """Its first records were written before this group heard of it."""
    topic = cluster.topic()
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.owns(0))
    cluster.add_partitions(topic, 2)
    cluster.produce(topic, b"early", number=1)
    one.poll_until(lambda: one.values() == [b"early"], within_s=30)


def test_what_the_listener_raises_comes_out_of_poll_and_nothing_is_skipped(
    cluster: Cluster, member: Member
) -> None:
    topic = cluster.topic()
    cluster.produce(topic, b"a", b"b")
    one = member(settings(cluster, topic))
    failures = [RuntimeError("first"), RuntimeError("second")]

    def fail(_: object) -> None:
        if failures:
            raise failures.pop(0)

    one.on_assign = fail
    for name in ("first", "second"):
        with pytest.raises(RuntimeError, match=name):
            one.poll_until(lambda: one.batches)
        assert one.batches == []
    one.poll_until(lambda: one.stop_of() == 2)
    assert one.values() == [b"a", b"b"]
    assert_no_hole(one, 0, 2)


def test_a_missing_topic_is_named_at_once(cluster: Cluster, member: Member) -> None:
    name = unique("no_such_topic")
    with pytest.raises(TopicMissing, match=name):
        member(settings(cluster, name))


def test_a_deleted_topic_is_noticed(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.owns(0))
    cluster.delete(topic)
    with pytest.raises(TopicMissing, match=topic):
        one.poll_until(lambda: False, within_s=30)


def test_a_topic_made_again_is_another_one_and_begins_at_its_beginning(
    cluster: Cluster, member: Member
) -> None:
    topic = cluster.topic()
    cluster.produce(topic, *(b"old %d" % i for i in range(10)))
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.stop_of() == 10)
    old = one.openings[0].partition
    one.consumer.commit({old: (10, 1)})
    cluster.recreate(topic)
    cluster.produce(topic, *(b"new %d" % i for i in range(20)))
    one.poll_until(lambda: ("lost", frozenset({0})) in one.told)
    one.poll_until(lambda: one.batches[-1].partition != old and one.batches[-1].range.stop == 20)
    new = one.batches[-1].partition
    assert new.topic_id != old.topic_id
    assert [r.value for b in one.batches if b.partition == new for r in b.records] == [
        b"new %d" % i for i in range(20)
    ]
    assert all(
        (r.value or b"").startswith(b"old") for b in one.batches if b.partition == old for r in b.records
    )
