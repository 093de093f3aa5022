"""Orphan commits: settled and not known to be below the group's committed offset (S8)."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, Stage

from airflow_kafka_exactly.errors import StaleEpoch
from airflow_kafka_exactly.protocol.claims import Opening, OrphanState
from airflow_kafka_exactly.protocol.record import Partition


def settled(stage: Stage, stop: int) -> None:
    stage.mine = stage.life("a")
    stage.apply(stage.mine, stage.claim(stage.mine, 0, stop))


def test_an_accepted_offset_commit_leaves_no_orphan(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.committed(stage.mine, {PLACE: 5})
    stage.die(stage.mine)
    assert stage.leader.sweep_orphans(0) == []


def test_case_29_what_is_refused_becomes_an_orphan_commit_with_its_reason(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.committed(stage.mine, {PLACE: 2})
    stage.die(stage.mine)
    assert stage.member.refused(stage.mine, {PLACE: 5}, "UNKNOWN_MEMBER_ID") == 1, "needs no current life"
    assert stage.member.refused(stage.mine, {PLACE: 5}, "again") == 0
    assert stage.member.refused(stage.mine, {}, "nothing") == 0
    (orphan,) = stage.leader.sweep_orphans(0)
    assert (orphan.group_id, orphan.partition, orphan.reason) == (GROUP, PLACE, "UNKNOWN_MEMBER_ID")
    assert (orphan.range.start, orphan.range.stop) == (2, 5)


def test_more_of_it_is_another_row(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.refused(stage.mine, {PLACE: 5}, "first")
    stage.apply(stage.mine, stage.claim(stage.mine, 5, 9))
    assert stage.member.refused(stage.mine, {PLACE: 9}, "second") == 1
    assert [(o["start"], o["stop"]) for o in stage.report.orphans(GROUP, True)] == [(0, 5), (5, 9)]


def test_no_orphan_passes_the_frontier(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.refused(stage.mine, {PLACE: 50}, "a claim too far")
    assert [o["stop"] for o in stage.report.orphans(None, True)] == [5]


def test_a_members_accepted_commit_drains_it(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.refused(stage.mine, {PLACE: 5}, "x")
    other = stage.life("b")
    stage.member.committed(other, {PLACE: 4})
    assert len(stage.report.orphans(GROUP, True)) == 1
    stage.member.committed(other, {PLACE: 5})
    assert stage.report.orphans(GROUP, True) == []
    (row,) = stage.report.orphans(GROUP, False)
    assert (row["state"], row["drained_by"]) == ("member", "b#1")


def test_a_commit_says_nothing_of_the_same_number_of_another_topic(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.refused(stage.mine, {PLACE: 5}, "x")
    other = Partition("topic-id-2", PLACE.number, "refunds")
    stage.member.open_partitions(stage.mine, CLUSTER, [Opening(other, 0, False)])
    stage.member.committed(stage.mine, {other: 5})
    stage.leader.read_back(0, GROUP, {other: 5})
    assert [o["stop"] for o in stage.report.orphans(GROUP, True)] == [5]


def test_a_late_smaller_commit_lowers_nothing(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.committed(stage.mine, {PLACE: 5})
    stage.member.committed(stage.mine, {PLACE: 2})
    stage.die(stage.mine)
    assert stage.leader.sweep_orphans(0) == []


def test_it_is_drained_when_the_offset_read_back_says_so_not_before(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.refused(stage.mine, {PLACE: 5}, "x")
    (orphan,) = stage.leader.sweep_orphans(0)
    assert not stage.leader.close_orphan(0, orphan.orphan_id, OrphanState.ALTERED)
    assert stage.leader.read_back(0, GROUP, {PLACE: 5}) == []
    assert stage.leader.close_orphan(0, orphan.orphan_id, OrphanState.ALTERED)
    assert not stage.leader.close_orphan(0, orphan.orphan_id, OrphanState.ALTERED), "once"
    assert stage.report.orphans(GROUP, False)[0]["state"] == "altered"


def test_an_orphan_of_a_deleted_topic_is_closed_for_good(stage: Stage) -> None:
    settled(stage, 5)
    stage.die(stage.mine)
    (orphan,) = stage.leader.sweep_orphans(0)
    assert stage.leader.close_orphan(0, orphan.orphan_id, OrphanState.SUPERSEDED)
    assert stage.leader.sweep_orphans(0) == []


def test_s4_leader_writes_carry_the_epoch(stage: Stage) -> None:
    settled(stage, 5)
    life = stage.mine
    assert stage.new_epoch() == 1
    with pytest.raises(StaleEpoch):
        stage.leader.sweep_orphans(0)
    with pytest.raises(StaleEpoch):
        stage.leader.read_back(0, GROUP, {PLACE: 1})
    with pytest.raises(StaleEpoch):
        stage.leader.close_orphan(0, 1, OrphanState.ALTERED)
    stage.expire(life)
    with pytest.raises(StaleEpoch):
        stage.leader.fence(0, life)
    assert stage.leader.fence(1, life)


def test_a_partition_that_a_live_life_holds_is_left_to_it(stage: Stage) -> None:
    settled(stage, 5)
    stage.member.close_life(stage.mine)
    stage.life("b")
    assert stage.leader.sweep_orphans(0) == []
