"""What commands and pages read; reconciling (case 1)."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, Stage, record

from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.protocol.claims import Opening, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition


def test_status_shows_members_partitions_doubts_and_what_is_open(stage: Stage) -> None:
    a = stage.life("a")
    claim = stage.claim(a, 0, 4)
    stage.doubt(a, 4, 6)
    status = stage.report.status()
    (member,) = status["members"]
    assert (member["slot"], member["incarnation"], member["kind"], member["owner"]) == (
        "a",
        1,
        "worker",
        "dag.a",
    )
    assert 0 < member["lease_left_s"] <= 20
    (partition,) = status["partitions"]
    assert (partition["topic"], partition["partition"], partition["frontier"], partition["committed"]) == (
        "payments-in",
        0,
        0,
        0,
    )
    assert status["doubts"] == [{"group_id": GROUP, "kind": "vote", "state": "open", "count": 2}]
    assert (status["orphans_open"], status["dead_letters"], status["claims_open"]) == (0, 0, 1)
    stage.apply(a, claim)
    stage.member.close_life(a)
    assert stage.report.status()["members"] == []
    assert stage.report.status()["claims_open"] == 0


def test_doubts_of_one_group_or_of_all(stage: Stage) -> None:
    stage.doubt(stage.life(), 0, 2)
    stage.decide(stage.doubts()[0], Verdict.APPLIED, by="Ada")
    assert [d["state"] for d in stage.report.doubts(None, False)] == ["closed", "open"]
    assert [d["start"] for d in stage.report.doubts(GROUP, True)] == [1]
    assert stage.report.doubts("another", False) == []
    first = stage.report.doubts(GROUP, False)[0]
    assert (first["outcome"], first["decided_by"], first["evidence"]) == ("discarded", "Ada", {"why": "test"})


def test_case_01_what_was_committed_without_an_outcome_is_named_by_offset(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.apply(a, stage.claim(a, 0, 3))
    claim = stage.claim(a, 3, 6)
    stage.apply(b, stage.claim(b, 6, 8))
    found = stage.report.reconcile(GROUP, {PLACE: 10})
    assert [(d["topic"], d["partition"], d["start"], d["stop"]) for d in found] == [
        ("payments-in", 0, 3, 6),
        ("payments-in", 0, 8, 10),
    ]
    assert f"claim {claim.claim_id}" in found[0]["what"]
    assert stage.report.reconcile(GROUP, {PLACE: 3}) == []


def test_case_01_a_doubt_below_the_committed_offset_is_no_outcome(stage: Stage) -> None:
    a = stage.life("a")
    stage.doubt(a, 0, 1)
    window = stage.claim(a, 1, 2)
    stage.mark(a, window, 2, 1)
    stage.die(a)
    durable, bare = stage.report.reconcile(GROUP, {PLACE: 2})
    assert (durable["start"], durable["pending"]) == (0, True)
    assert (bare["start"], bare["stop"], bare["pending"]) == (1, 2, False)
    assert stage.report.reconcile(GROUP, {Partition("topic-id-7", 0, "unknown"): 4})[0]["stop"] == 4


def test_case_01_a_record_that_was_applied_and_redone_has_two_outcomes(stage: Stage) -> None:
    """Its claim's row is folded, so only what the doubt kept of it can tell."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 2)
    stage.ask(b, stage.part(1, 2))
    stage.apply(a, claim)
    assert stage.report.status()["claims_open"] == 0
    stage.forget_settled()
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b, stage.epoch, 5)
    assert stage.report.reconcile(GROUP, {PLACE: 1}) == []
    stage.apply(b, redo.claim)
    (found,) = stage.report.reconcile(GROUP, {PLACE: 2})
    assert (found["start"], found["stop"], found["pending"]) == (1, 2, False)
    assert f"claim {claim.claim_id} settled" in found["what"]


def test_case_01_a_record_that_is_buried_with_its_claim_has_one_outcome(stage: Stage) -> None:
    """Also when somebody had polled it meanwhile and doubted it; one that was applied and buried by its redo has two."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    stage.ask(b, stage.part(0, 1))
    stage.member.bury(a, claim, [record(0)], 1, "ValueError: no", 3)
    assert stage.doubts() == []
    assert stage.report.reconcile(GROUP, {PLACE: 1}) == []
    claim = stage.claim(a, 1, 2)
    stage.ask(b, stage.part(1, 2))
    stage.apply(a, claim)
    stage.forget_settled()
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b, stage.epoch, 5)
    stage.member.bury(b, redo.claim, [record(1)], 2, "ValueError: no", 3)
    (found,) = stage.report.reconcile(GROUP, {PLACE: 2})
    assert (found["start"], found["stop"], found["pending"]) == (1, 2, False)


def test_l2_what_kafka_deleted_unread_is_listed_once(stage: Stage) -> None:
    """Whoever polls before the gap is settled meets the same offsets again, and perhaps more of them."""
    a = stage.life("a")
    stage.claim(a, 0, 2)
    assert stage.report.lost(None) == []
    assert stage.member.record_lost(a, {PLACE: OffsetRange(5, 9)}) == 4
    assert stage.member.record_lost(a, {PLACE: OffsetRange(5, 9)}) == 0
    b = stage.life("a", owner="dag.a")
    with pytest.raises(Fenced):
        stage.member.record_lost(a, {PLACE: OffsetRange(5, 12)})
    assert stage.member.record_lost(b, {PLACE: OffsetRange(5, 12)}) == 3
    assert stage.member.record_lost(b, {PLACE: OffsetRange(20, 21)}) == 1
    found = stage.report.lost(GROUP)
    assert [(row["start"], row["stop"], row["found_by"]) for row in found] == [
        (5, 9, "a#1"),
        (9, 12, "a#2"),
        (20, 21, "a#2"),
    ]
    assert {(row["group_id"], row["topic"], row["partition"]) for row in found} == {(GROUP, PLACE.topic, 0)}
    assert stage.report.lost("another") == []


def test_l2_what_was_deleted_of_another_topic_is_listed_as_its_own(stage: Stage) -> None:
    a, other = stage.life("a"), Partition("topic-id-2", PLACE.number, "refunds")
    stage.claim(a, 0, 2)
    stage.member.open_partitions(a, CLUSTER, [Opening(other, 0, False)])
    assert stage.member.record_lost(a, {other: OffsetRange(5, 9)}) == 4
    assert stage.member.record_lost(a, {PLACE: OffsetRange(5, 9)}) == 4


def test_l2_what_was_deleted_below_a_listed_range_is_listed_too(stage: Stage) -> None:
    """Records in hand of a member that died: the log begins behind them when another comes back for them."""
    a = stage.life("a")
    stage.claim(a, 2, 10)
    assert stage.member.record_lost(a, {PLACE: OffsetRange(10, 20)}) == 10
    assert stage.member.record_lost(a, {PLACE: OffsetRange(22, 23)}) == 1
    stage.die(a)
    b = stage.life("b")
    assert stage.member.record_lost(b, {PLACE: OffsetRange(0, 25)}) == 14
    assert stage.member.record_lost(b, {PLACE: OffsetRange(0, 25)}) == 0
    listed = [(row["start"], row["stop"]) for row in stage.report.lost(GROUP)]
    assert sorted(listed) == [(0, 10), (10, 20), (20, 22), (22, 23), (23, 25)]
