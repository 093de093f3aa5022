"""Lives: slots, takeover, leases, sign-off (section 4.1, S4)."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, GROUP, LEASE_S, PLACE, Stage

from airflow_kafka_exactly.errors import Fenced, LedgerBehind, SlotBusy
from airflow_kafka_exactly.protocol.claims import LifeKind, Mark, Opening
from airflow_kafka_exactly.protocol.record import Partition


def test_incarnations_grow_and_a_takeover_supersedes(stage: Stage) -> None:
    first = stage.life("a", owner="run.task")
    second = stage.life("a", owner="run.task")
    assert (first.incarnation, second.incarnation) == (1, 2)
    assert stage.member.current_incarnation(GROUP, "a") == 2
    assert stage.member.current_incarnation(GROUP, "never opened") == 0
    with pytest.raises(Fenced):
        stage.member.renew(first, LEASE_S)
    with pytest.raises(Fenced):
        stage.ask(first, stage.part(0, 5))
    stage.member.renew(second, LEASE_S)


def test_a_slot_of_a_live_life_of_another_task_instance_is_busy(stage: Stage) -> None:
    holder = stage.life("a", owner="dag.task run 1")
    with pytest.raises(SlotBusy, match=r"dag\.task run 1") as busy:
        stage.life("a", owner="dag.task run 2")
    assert busy.value.slot == "a"
    assert 0 < busy.value.lease_left_s <= LEASE_S
    stage.member.renew(holder, LEASE_S)  # nothing happened to the holder
    stage.expire(holder)
    assert stage.life("a", owner="dag.task run 2").incarnation == 2


def test_a_slot_s_last_owner_is_that_of_its_newest_life(stage: Stage) -> None:
    assert stage.member.last_owner(GROUP, "a") == ""
    stage.member.close_life(stage.life("a", owner="run 1"))
    assert stage.member.last_owner(GROUP, "a") == "run 1"
    stage.life("a", owner="run 2")
    assert stage.member.last_owner(GROUP, "a") == "run 2"
    assert stage.member.last_owner(GROUP, "b") == ""


def test_a_slot_that_was_signed_off_is_free_at_once(stage: Stage) -> None:
    stage.member.close_life(stage.life("a", owner="run 1"))
    assert stage.life("a", owner="run 2").incarnation == 2


def test_slots_of_other_groups_are_other_slots(stage: Stage) -> None:
    stage.life("a", owner="run 1")
    assert stage.life("a", owner="run 2", group="another", opened=False).incarnation == 1


def test_h2_a_superseded_life_keeps_its_lease_and_its_marks_count(stage: Stage) -> None:
    old = stage.life("a")
    claim = stage.claim(old, 0, 4)
    stage.mark(old, claim, 2, 0)
    stage.life("a")
    assert not stage.leader.fence(0, old), "its lease is not over"
    assert stage.mark(old, claim, 4, 3) == 3
    stage.die(old)
    with pytest.raises(Fenced):
        stage.mark(old, claim, 4, 4)
    assert stage.doubted() == [(3, 4, "window", "open")]


def test_closing_gives_back_what_was_not_started_and_leaves_the_window_to_the_fence(stage: Stage) -> None:
    life = stage.life("a")
    claim = stage.claim(life, 0, 6)
    stage.mark(life, claim, 3, 2)
    stage.member.close_life(life)
    other = stage.life("b")
    result = stage.ask(other, stage.part(0, 6))
    assert [(c.range.start, c.range.stop) for c in result.granted] == [(3, 6)]
    assert stage.doubted() == [(2, 3, "collision", "open")]
    stage.die(life)
    assert stage.doubted() == [(2, 3, "window", "open")]
    stage.member.close_life(life)  # a no-op for a life that is over


def test_overdue_lives_are_fenced_once(stage: Stage) -> None:
    life, other = stage.life("a"), stage.life("b")
    assert not stage.leader.overdue()
    stage.expire(life)
    (overdue,) = stage.leader.overdue()
    assert overdue.life == life
    assert 0 < overdue.overdue_s < 10
    assert stage.leader.fence(0, life)
    assert not stage.leader.fence(0, life)
    assert not stage.leader.fence(0, other)
    assert not stage.leader.overdue()
    assert stage.leader.over([life, other]) == [life]


def test_a_late_life_may_renew_as_long_as_it_was_not_fenced(stage: Stage) -> None:
    life = stage.life("a")
    stage.pass_time(LEASE_S + 1)
    stage.member.renew(life, LEASE_S)
    assert not stage.leader.fence(0, life)


# -- partitions


def test_positions_start_at_the_greater_of_the_committed_offset_and_the_frontier(stage: Stage) -> None:
    life = stage.life("a", opened=False)
    other = Partition("topic-id-1", 1, "payments-in")
    assert stage.member.open_partitions(
        life, CLUSTER, [Opening(PLACE, 7, True), Opening(other, 3, False)]
    ) == {PLACE: 7, other: 3}
    claim = stage.claim(life, 7, 12)
    stage.apply(life, claim)
    assert stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 9, True, claim.claim_id)]) == {
        PLACE: 12
    }
    assert stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 0, False)]) == {PLACE: 12}
    assert stage.member.frontiers(GROUP, ["payments-in"]) == {PLACE: 12, other: 3}
    assert stage.member.frontiers(GROUP, ["another"]) == {}


def test_an_offset_that_was_reset_forward_by_hand_is_followed(stage: Stage) -> None:
    life = stage.life("a")
    assert stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 50, True)]) == {PLACE: 50}
    assert stage.claim(life, 50, 60).range.start == 50


def test_h8_a_ledger_that_is_behind_its_offset_commits_says_so(stage: Stage) -> None:
    life = stage.life("a")
    claim = stage.claim(life, 0, 5)
    stage.apply(life, claim)
    with pytest.raises(LedgerBehind, match="never granted"):
        stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 5, True, claim.claim_id + 1000)])
    with pytest.raises(LedgerBehind):  # it knows the claim's number, but not that it was settled
        stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 9, True, claim.claim_id)])
    fresh = Partition("topic-id-2", 0, "another topic")
    with pytest.raises(LedgerBehind):
        stage.member.open_partitions(life, CLUSTER, [Opening(fresh, 5, True, claim.claim_id)])


def test_h11_an_offset_of_a_deleted_topic_of_the_same_name_means_nothing(stage: Stage) -> None:
    life = stage.life("a")
    stage.apply(life, stage.claim(life, 0, 5))
    again = Partition("topic-id-2", 0, "payments-in")
    assert stage.member.open_partitions(life, CLUSTER, [Opening(again, 5, True, 1)]) == {again: 0}


def test_only_a_current_life_opens_partitions(stage: Stage) -> None:
    old = stage.life("a")
    stage.life("a", kind=LifeKind.TRIGGER)
    with pytest.raises(Fenced):
        stage.member.open_partitions(old, CLUSTER, [Opening(PLACE, 0, False)])


def test_case_23_two_copies_of_one_task_instance(stage: Stage) -> None:
    """The older copy stops at the fence; no record is claimed by both."""
    older = stage.life("a", owner="run.task")
    claim = stage.claim(older, 0, 4)
    stage.mark(older, claim, 1, 0)
    newer = stage.life("a", owner="run.task")
    result = stage.ask(newer, stage.part(0, 8))
    assert [(c.range.start, c.range.stop) for c in result.granted] == [(4, 8)]
    with pytest.raises(Fenced):
        stage.ask(older, stage.part(8, 9))
    stage.die(older)
    with pytest.raises(Fenced):
        stage.member.mark(older, [Mark(claim.claim_id, 4, 4)])
    assert stage.doubted()[0] == (0, 1, "window", "open")


def test_a_leader_learns_the_connection_that_a_group_is_consumed_by(stage: Stage) -> None:
    stage.life("a", kafka_connection="kafka_old")
    stage.life("b", kafka_connection="kafka_new")
    stage.life("c")
    assert stage.leader.kafka_connection(GROUP) == "kafka_new"
    assert stage.leader.kafka_connection("nobody") == ""
