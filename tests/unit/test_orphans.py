"""How an open orphan commit is drained (S8), and what is never done to an offset (S2)."""

from collections.abc import Mapping

from airflow_kafka_exactly.protocol.claims import OrphanCommit, OrphanState
from airflow_kafka_exactly.protocol.orphans import TELL_AGAIN_S, Alter, Close, Drain, GroupView, Tell, Wait
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

P0, P1 = Partition("id", 0, "t"), Partition("id", 1, "t")


def orphan(number: int = 1, partition: Partition = P0, start: int = 10, stop: int = 20) -> OrphanCommit:
    return OrphanCommit(
        orphan_id=number,
        group_id="g",
        partition=partition,
        range=OffsetRange(start, stop),
        reason="ILLEGAL_GENERATION",
        state=OrphanState.OPEN,
    )


def view(
    committed: Mapping[Partition, int] | None = None,
    *,
    empty: bool = False,
    frontier: int = 20,
    topic_ids: Mapping[str, str] | None = None,
) -> GroupView:
    return GroupView(
        committed={P0: 10} if committed is None else committed,
        topic_ids={"t": "id"} if topic_ids is None else topic_ids,
        empty=empty,
        frontiers={P0: frontier, P1: frontier},
    )


def test_an_offset_that_has_passed_supersedes() -> None:
    assert Drain("g").plan([orphan()], view({P0: 20}), 0.0) == (Close(orphan(), OrphanState.SUPERSEDED),)


def test_members_are_told_and_credited_only_when_the_offset_read_back_says_so() -> None:
    drain = Drain("g")
    assert drain.plan([orphan()], view(), 0.0) == (Tell("g", (P0,)),)
    assert drain.plan([orphan()], view({P0: 19}), 1.0) == ()
    assert drain.plan([orphan()], view(), TELL_AGAIN_S) == (Tell("g", (P0,)),)
    assert drain.plan([orphan()], view({P0: 25}), 6.0) == (Close(orphan(), OrphanState.MEMBER),)


def test_an_empty_groups_offset_is_altered_to_the_frontier_and_closed_by_the_read_back() -> None:
    drain = Drain("g")
    assert drain.plan([orphan()], view(empty=True, frontier=23), 0.0) == (Alter("g", {P0: 23}),)
    assert drain.plan([orphan()], view(empty=True, frontier=23), 1.0) == (
        Alter("g", {P0: 23}),
    )  # it did not take
    assert drain.plan([orphan()], view({P0: 23}), 2.0) == (Close(orphan(), OrphanState.ALTERED),)


def test_h17_an_alter_that_another_leader_undid_is_done_again() -> None:
    drain = Drain("g")
    drain.plan([orphan()], view(empty=True), 0.0)
    assert drain.plan([orphan()], view({P0: 20}, empty=True), 1.0) == (Close(orphan(), OrphanState.ALTERED),)
    assert drain.plan([], view({P0: 20}, empty=True), 2.0) == ()
    assert drain.plan([orphan()], view({P0: 10}, empty=True), 3.0) == (Alter("g", {P0: 20}),)


def test_s2_no_offset_is_altered_while_the_frontier_waits_for_a_payload() -> None:
    (wait,) = Drain("g").plan([orphan()], view(empty=True, frontier=15), 0.0)
    assert isinstance(wait, Wait)
    assert "payload" in wait.reason


def test_a_group_without_any_offset_is_altered_too() -> None:
    assert Drain("g").plan([orphan()], view({}, empty=True), 0.0) == (Alter("g", {P0: 20}),)


def test_h11_a_topic_that_was_created_anew_is_left_alone() -> None:
    new = view(empty=True, topic_ids={"t": "another id"})
    assert Drain("g").plan([orphan()], new, 0.0) == (Close(orphan(), OrphanState.SUPERSEDED),)


def test_a_topic_that_is_gone_waits() -> None:
    (wait,) = Drain("g").plan([orphan()], view(empty=True, topic_ids={}), 0.0)
    assert isinstance(wait, Wait)
    assert "does not exist" in wait.reason


def test_closings_come_first_and_partitions_are_told_together() -> None:
    orphans = [orphan(1, P1), orphan(2), orphan(3, P0, 5, 10), orphan(4, P1, 20, 30)]
    assert Drain("g").plan(orphans, view({P0: 10}), 0.0) == (
        Close(orphans[2], OrphanState.SUPERSEDED),
        Tell("g", (P0, P1)),
    )
