"""Who owns what, in which order the listener hears of it, and what an offset commit is answered."""

import time
from collections.abc import Callable, Sequence

import pytest
from brokers import Cluster, TestMember, all_owned, eventually, settings

from airflow_kafka_exactly.errors import Fenced, GroupInUse
from airflow_kafka_exactly.protocol.claims import CommitCode, Opening
from airflow_kafka_exactly.protocol.record import Partition

Member = Callable[..., TestMember]


def together(*members: TestMember) -> bool:
    for member in members:
        member.poll()
    return True


def test_a_second_member_gets_its_share_after_the_first_gave_it_up(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(4)
    ours = settings(cluster, topic)
    one = member(ours, "dag.task[0]")
    one.poll_until(lambda: one.owns(0, 1, 2, 3))
    commits = {}
    one.on_revoke = lambda gone: commits.update(one.consumer.commit(dict.fromkeys(gone, (0, 1))))
    two = member(ours, "dag.task[1]")
    two.poll_until(lambda: together(one) and all_owned([one, two], 4), within_s=30)

    told, numbers = [kind for kind, _ in one.told], {p.number for p in two.consumer.assignment()}
    assert told == ["assigned", "revoked"], "only what moves is revoked, the rest is kept"
    assert one.told[1] == ("revoked", frozenset(numbers))
    assert [kind for kind, _ in two.told] == ["assigned"]
    assert {code for code, _ in commits.values()} == {CommitCode.ACCEPTED}, (
        "still the owner while it is revoked"
    )
    assert all(o.committed and o.claim_seen == 1 for o in two.openings.values())


def test_a_slot_is_taken_over_without_a_rebalance(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(4)
    ours = settings(cluster, topic)
    one, other = member(ours, "dag.task[0]"), member(ours, "dag.task[1]")
    one.poll_until(lambda: together(other) and all_owned([one, other], 4), within_s=30)
    mine, heard = one.consumer.assignment(), len(other.told)

    successor = member(ours, "dag.task[0]")
    successor.poll_until(lambda: together(other) and successor.consumer.assignment() == mine)
    assert len(other.told) == heard, "the other member heard nothing"
    with pytest.raises(Fenced):
        one.poll_until(lambda: together(other, successor) and False)
    some = min(mine)
    assert one.consumer.commit({some: (0, 1)})[some][0] is CommitCode.ORPHAN
    assert successor.consumer.commit({some: (0, 1)})[some] == (CommitCode.ACCEPTED, "NO_ERROR")


def test_a_closed_consumer_keeps_its_place_until_its_session_ends(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    ours = settings(cluster, topic)
    one, two = member(ours, "dag.task[0]"), member(ours, "dag.task[1]")
    one.poll_until(lambda: together(two) and all_owned([one, two], 2), within_s=30)
    one.consumer.close()
    assert cluster.admin().instances(ours.group_id) == ("dag.task[0]", "dag.task[1]")
    again = member(ours, "dag.task[0]")
    again.poll_until(lambda: together(two) and all_owned([again, two], 2))
    again.consumer.close()
    two.poll()
    assert len(two.consumer.assignment()) == 1
    cluster.end_session(ours.group_id, "dag.task[0]")
    two.poll_until(lambda: two.owns(0, 1), within_s=30)


def test_case_07_a_close_is_quick_and_tells_the_listener_nothing(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.owns(0, 1))
    told, begun = len(one.told), time.monotonic()
    one.consumer.close()
    assert time.monotonic() - begun < 5
    assert len(one.told) == told
    assert one.consumer.assignment() == frozenset()


def test_a_topic_made_again_while_its_partitions_are_opened_hands_over_nothing_of_the_new_one(
    cluster: Cluster, member: Member
) -> None:
    """The listener asks the ledger, which takes time; then the poll goes on."""
    topic = cluster.topic(3)
    one = member(settings(cluster, topic))

    def made_again(openings: Sequence[Opening]) -> None:
        one.on_assign = lambda _: None
        old.update(o.partition for o in openings)
        cluster.recreate(topic, 1)
        cluster.produce(topic, b"of the new topic")

    old: set[Partition] = set()
    one.on_assign = made_again
    one.poll_until(one.values, within_s=60)
    assert one.values() == [b"of the new topic"]
    assert old.isdisjoint(b.partition for b in one.batches if b.records)


def test_case_05_nothing_to_commit_is_a_no_op(cluster: Cluster, member: Member) -> None:
    one = member(settings(cluster, cluster.topic()))
    assert one.consumer.commit({}) == {}


def test_committed_offsets_and_the_claim_are_found_again(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    cluster.produce(topic, *(b"%d" % i for i in range(5)))
    ours = settings(cluster, topic)
    one = member(ours)
    one.poll_until(lambda: one.owns(0, 1))
    first = one.openings[0].partition
    assert one.consumer.commit({first: (3, 42)}) == {first: (CommitCode.ACCEPTED, "NO_ERROR")}
    again = member(ours)
    again.poll_until(lambda: again.owns(0, 1))
    assert (again.openings[0].start, again.openings[0].committed, again.openings[0].claim_seen) == (
        3,
        True,
        42,
    )
    assert (again.openings[1].start, again.openings[1].committed, again.openings[1].claim_seen) == (
        0,
        False,
        0,
    )
    assert cluster.admin().committed(ours.group_id, [first, again.openings[1].partition]) == {first: 3}


def test_case_29_no_offset_of_a_partition_that_moved_leaves(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    ours = settings(cluster, topic)
    one = member(ours, "dag.task[0]")
    one.poll_until(lambda: one.owns(0, 1))
    two = member(ours, "dag.task[1]")
    two.poll_until(lambda: together(one) and all_owned([one, two], 2), within_s=30)
    (moved,), (kept,) = two.consumer.assignment(), one.consumer.assignment()
    assert two.consumer.commit({moved: (9, 9)})[moved][0] is CommitCode.ACCEPTED
    answers = one.consumer.commit({moved: (1, 1), kept: (1, 1)})
    assert answers == {moved: (CommitCode.ORPHAN, "NOT_ASSIGNED"), kept: (CommitCode.ACCEPTED, "NO_ERROR")}
    assert cluster.admin().committed(ours.group_id, [moved, kept]) == {moved: 9, kept: 1}


def test_an_offset_for_a_topic_that_was_made_again_is_an_orphan_commit(
    cluster: Cluster, member: Member
) -> None:
    topic = cluster.topic()
    cluster.produce(topic, b"a", b"b")
    ours = settings(cluster, topic)
    one = member(ours)
    one.poll_until(lambda: one.stop_of() == 2)
    old = one.batches[0].partition
    cluster.recreate(topic)
    one.poll_until(lambda: one.consumer.commit({old: (2, 1)})[old][0] is not CommitCode.ACCEPTED)
    code, name = one.consumer.commit({old: (2, 1)})[old]
    assert code is CommitCode.ORPHAN
    assert name in {"TOPIC_RECREATED", "NOT_ASSIGNED"}
    one.poll_until(lambda: any(p != old for p in one.consumer.assignment()))
    assert cluster.admin().committed(ours.group_id, [old, *one.consumer.assignment()]) == {}


def test_offsets_of_another_program_are_not_taken_over(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic()
    cluster.produce(topic, b"a", b"b", b"c")
    ours = settings(cluster, topic)
    cluster.plain_commit(ours.group_id, topic, 0, 2)
    one = member(ours)
    with pytest.raises(GroupInUse, match=ours.group_id):
        one.poll_until(lambda: one.batches)
    one.consumer.close()
    adopting = member(settings(cluster, topic, group_id=ours.group_id, adopt_offsets=True))
    adopting.poll_until(lambda: adopting.values() == [b"c"])
    assert (adopting.openings[0].committed, adopting.openings[0].claim_seen) == (True, 0)


def test_the_admin_sees_topics_ends_and_groups(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    cluster.produce(topic, b"a", number=1)
    cluster.transaction(topic, b"b", commit=True)
    admin, ours = cluster.admin(), settings(cluster, topic)
    facts = admin.topics([topic])[topic]
    assert (facts.topic, facts.partitions) == (topic, 2)
    first, second = (Partition(facts.topic_id, n, topic) for n in range(2))
    eventually(
        lambda: admin.end_offsets([topic]) == {first: 2, second: 1}
    )  # a marker follows its transaction
    assert admin.cluster_id() == admin.cluster_id() != ""
    assert admin.instances(ours.group_id) == ()
    one = member(ours)
    one.poll_until(lambda: one.owns(0, 1))
    assert admin.instances(ours.group_id) == ("dag.task[0]",)


def test_the_offsets_of_an_empty_group_alone_can_be_altered(cluster: Cluster, member: Member) -> None:
    topic = cluster.topic(2)
    ours, admin = settings(cluster, topic), cluster.admin()
    one = member(ours)
    one.poll_until(lambda: one.owns(0, 1))
    first, second = sorted(one.consumer.assignment())
    one.consumer.commit({first: (1, 17)})
    assert admin.alter(ours.group_id, {first: 5}) == {first: False}
    one.consumer.close()
    cluster.end_session(ours.group_id, "dag.task[0]")
    gone = Partition("another-topic-id", 0, topic)
    assert admin.alter(ours.group_id, {first: 5, second: 3, gone: 8}) == {
        first: True,
        second: True,
        gone: False,
    }
    assert admin.committed(ours.group_id, [first, second, gone]) == {first: 5, second: 3}
    again = member(ours)
    again.poll_until(lambda: again.owns(0, 1))
    assert (again.openings[0].start, again.openings[0].claim_seen) == (5, 17), (
        "an alter keeps the claim number"
    )
    assert (again.openings[1].start, again.openings[1].committed) == (3, True)


def test_partitions_that_a_topic_gets_later_are_assigned_too(cluster: Cluster, member: Member) -> None:
    assert set(cluster.config()) <= {"bootstrap.servers"}, "with the product's own client settings"
    topic = cluster.topic(1)
    one = member(settings(cluster, topic))
    one.poll_until(lambda: one.owns(0))
    cluster.add_partitions(topic, 3)
    one.poll_until(lambda: one.owns(0, 1, 2), within_s=30)
    cluster.produce(topic, b"new", number=2)
    one.poll_until(lambda: one.values() == [b"new"])
    assert [kind for kind, _ in one.told] == ["assigned", "assigned"]
