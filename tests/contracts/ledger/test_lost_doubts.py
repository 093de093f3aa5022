"""Doubts whose payload cannot come any more: closed and counted, or a person's, and never waited for without an end (L1, L2)."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, TOPIC, Stage, record

from airflow_kafka_exactly.errors import StaleEpoch
from airflow_kafka_exactly.protocol.claims import DoubtState, Life, Opening, Verdict
from airflow_kafka_exactly.protocol.evidence import UNREAD_FOR_S, AskPerson, Ruling, Wait, weigh
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.runtime.evidence import Ruled, give_up, settle

AGAIN = Partition("topic-id-2", 0, TOPIC)
DELETED = "its topic was deleted"


def window(stage: Stage, life: Life, start: int = 0, stop: int = 4) -> None:
    """The life dies between its marks, and nobody has its payload."""
    stage.mark(life, stage.claim(life, start, stop), stop, start)
    stage.die(life)


def bare(stage: Stage) -> list[tuple[int, int, bool]]:
    return [(f.range.start, f.range.stop, f.durable) for f in stage.doubts()]


def test_l1_what_a_deleted_topic_left_is_closed_by_the_leader(stage: Stage) -> None:
    window(stage, stage.life("a"))
    b = stage.life("b")
    stage.doubt(b, 6, 7)  # has its payload: it can be decided, and redone, whatever became of the topic
    assert stage.leader.without_payload(GROUP) == [PLACE]
    assert stage.leader.close_lost(stage.epoch, GROUP, [PLACE], DELETED) == 1
    assert stage.leader.close_lost(stage.epoch, GROUP, [PLACE], DELETED) == 0
    assert stage.leader.without_payload(GROUP) == []
    assert stage.outcomes() == {(0, 4): "lost", (6, 7): None}
    row = stage.report.doubts(GROUP, False)[0]
    assert (row["decided_by"], row["evidence"]["why"]) == (f"epoch {stage.epoch}", DELETED)
    assert stage.frontier() == 4
    assert stage.report.reconcile(GROUP, {PLACE: 4}) == [], "lost is an outcome"


def test_only_the_partitions_that_are_named_are_closed(stage: Stage) -> None:
    window(stage, stage.life("a"))
    assert stage.leader.close_lost(stage.epoch, GROUP, [AGAIN], DELETED) == 0
    assert stage.leader.close_lost(stage.epoch, "another", [PLACE], DELETED) == 0
    assert stage.the_doubt().state is DoubtState.OPEN


def test_s4_a_leader_of_the_past_closes_nothing(stage: Stage) -> None:
    window(stage, stage.life("a"))
    stage.new_epoch()
    with pytest.raises(StaleEpoch):
        stage.leader.close_lost(stage.epoch - 1, GROUP, [PLACE], DELETED)
    assert stage.the_doubt().state is DoubtState.OPEN


def test_what_was_ruled_to_be_redone_and_has_no_payload_is_lost_with_its_topic(stage: Stage) -> None:
    window(stage, stage.life("a"))
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED, by="Ada")
    assert stage.the_doubt().state is DoubtState.RELEASED
    assert stage.leader.close_lost(stage.epoch, GROUP, [PLACE], DELETED) == 1
    assert stage.outcomes() == {(0, 4): "lost"}


def test_an_offset_reset_forward_closes_what_it_skips_and_no_payload_comes_for(stage: Stage) -> None:
    """Whoever moves the offset by hand skips what lies below it: what was claimed by nobody, and what is in question alike."""
    window(stage, stage.life("a"))
    starts = stage.member.open_partitions(stage.life("b"), CLUSTER, [Opening(PLACE, 50, True, 0)])
    assert starts == {PLACE: 50}
    assert stage.outcomes() == {(0, 4): "lost"}
    assert stage.report.doubts(GROUP, False)[0]["evidence"]["why"] == "skipped by a reset offset"
    assert stage.frontier() == 50


def test_a_payload_that_is_stored_outlives_a_reset(stage: Stage) -> None:
    stage.doubt(stage.life("a"), 0, 1)
    stage.doubt(stage.life("b"), 1, 2)
    stage.member.open_partitions(stage.life("c"), CLUSTER, [Opening(PLACE, 50, True, 0)])
    assert [facts.durable for facts in stage.doubts()] == [True, True]
    assert [facts.passed for facts in stage.doubts()] == [False, False]


def test_a_window_that_a_reset_cuts_is_a_persons_and_what_is_still_delivered_is_not(stage: Stage) -> None:
    window(stage, stage.life("a"), 0, 8)
    b = stage.life("b")
    stage.member.open_partitions(b, CLUSTER, [Opening(PLACE, 5, True, 0)])
    assert stage.the_doubt().passed
    stage.ask(b, stage.part(5, 10))
    assert [(f.range.start, f.passed, f.durable) for f in stage.doubts()] == [
        (0, True, False),
        (5, False, True),
        (6, False, True),
        (7, False, True),
    ]
    first = stage.doubts()[0]
    assert isinstance(weigh(first), AskPerson)
    redo = Ruled(doubt_id=first.doubt_id, version=first.version, ruling=Ruling.REDO, person="Ada")
    assert settle(stage.evidence, [redo]).decided == [first.doubt_id]
    assert stage.outcomes()[0, 5] == "lost", "nothing is left to run it from"


def test_nobody_is_asked_while_somebody_reads_the_partition(stage: Stage) -> None:
    window(stage, stage.life("a"))
    assert stage.the_doubt().unread
    b = stage.life("b")
    assert not stage.the_doubt().unread
    stage.pass_time(UNREAD_FOR_S)
    assert isinstance(weigh(stage.the_doubt()), Wait)
    stage.die(b)
    assert stage.the_doubt().unread
    assert isinstance(weigh(stage.the_doubt()), AskPerson)


def test_a_doubt_is_announced_at_once_when_its_payload_comes(stage: Stage) -> None:
    """A run that found it without one holds it for long: nothing changes before."""
    life = stage.life("a")
    stage.mark(life, stage.claim(life, 0, 2, unit=True), 2, 0)
    stage.die(life)
    (facts,) = stage.evidence.announce(9, 60.0)
    stage.evidence.hold({facts.doubt_id: facts.version}, 3600.0)
    b = stage.life("b")
    assert stage.evidence.announce(9, 0.0) == []
    stage.ask(b, stage.part(0, 2), unit=True)
    (again,) = stage.evidence.announce(9, 60.0)
    assert (again.doubt_id, again.durable) == (facts.doubt_id, True)


def test_a_person_closes_doubts_by_their_ids(stage: Stage) -> None:
    window(stage, stage.life("a"))
    b = stage.life("b")
    stage.doubt(b, 6, 7)
    without, stored = [f.doubt_id for f in stage.doubts()]
    refused = give_up(stage.evidence, [without, stored, 10**6], "ann", "the topic is history")
    assert {d: why.split(":")[0] for d, why in refused.items()} == {
        stored: "its payload is stored",
        10**6: "there is no such doubt",
    }
    assert stage.outcomes() == {(0, 4): "lost", (6, 7): None}
    row = stage.report.doubts(GROUP, False)[0]
    assert (row["decided_by"], row["evidence"]["note"]) == ("ann", "the topic is history")
    assert give_up(stage.evidence, [without], "ann", "again") == {without: "it is closed"}
    assert stage.evidence.payload(stored) == [record(6)]


def test_a_person_closes_what_was_released_and_never_came(stage: Stage) -> None:
    window(stage, stage.life("a"))
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED, by="Ada")
    assert give_up(stage.evidence, [stage.the_doubt().doubt_id], "ann", "nobody reads it") == {}
    assert stage.outcomes() == {(0, 4): "lost"}


def test_what_a_live_claim_holds_is_not_lost(stage: Stage) -> None:
    """Its life may still have its effect: its mark, or its fence, says what became of it."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 2, unit=True)
    stage.ask(b, stage.part(0, 1), unit=True)
    assert stage.leader.close_lost(stage.epoch, GROUP, [PLACE], DELETED) == 0
    stage.apply(a, claim)
    assert "lost" not in stage.outcomes().values()
