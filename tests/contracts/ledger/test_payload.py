"""Payloads: any bytes come back as they were (S2, H27)."""

from __future__ import annotations

import pytest
from ledger_stage import PLACE, Stage

from airflow_kafka_exactly.protocol.claims import ClaimPart, DoubtState, Segment, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange, PartitionBatch, RawRecord

AWKWARD = [
    RawRecord(0, None, None, (), 0),
    RawRecord(1, b"", b"", (("", b""),), -1),
    RawRecord(2, b"\x00", bytes(range(256)), (("h\x00", b"\x00"), ("none", None)), 1 << 41),
    RawRecord(3, b"k", b"v" * 100_000, (("same", b"1"), ("same", b"2"), ("same", None)), 5),
    RawRecord(4, "ü".encode(), b"{", (("häder\udcff", b"{NULL}"), ("NULL", b"NULL"), ("\\", b'"')), 6),
]


def doubt(stage: Stage, records: list[RawRecord]) -> None:
    span = OffsetRange(0, len(records))
    part = ClaimPart(PartitionBatch(PLACE, span, tuple(records)), (Segment(span, True),))
    stage.ask(stage.life(), part)


def stored(stage: Stage) -> list[RawRecord]:
    return [r for facts in stage.doubts() for r in stage.evidence.payload(facts.doubt_id)]


def test_any_bytes_come_back(stage: Stage) -> None:
    doubt(stage, AWKWARD)
    assert stored(stage) == AWKWARD


def test_a_redo_gets_the_very_record(stage: Stage) -> None:
    doubt(stage, AWKWARD)
    for facts in stage.doubts():
        assert stage.decide(facts, Verdict.NOT_APPLIED)
    redone = stage.claim_released(stage.life("b"), 0, 10)
    assert [r for redo in redone for r in redo.records] == AWKWARD


def test_a_raised_record_is_stored_as_it_is(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 5)
    for awkward in AWKWARD:
        stage.member.raise_doubt(life, claim, [awkward], awkward.offset + 1, "boom")
    assert stored(stage) == AWKWARD
    assert stage.frontier() == 5


def test_h27_a_storm_of_doubts_is_stored_in_chunks(stage: Stage) -> None:
    result = stage.doubt(stage.life(), 0, 1200)
    assert result.new_doubts == 1200
    assert result.frontiers == {PLACE: 1200}
    facts = stage.doubts()
    assert len(facts) == 1200
    assert all(f.durable for f in facts)


def test_an_offset_that_turns_out_to_be_a_gap_needs_no_judgement(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 4)
    stage.mark(a, claim, 3, 0)
    stage.die(a)
    stage.gaps = {1}
    stage.ask(b, stage.part(0, 4))
    assert stage.outcomes() == {(0, 1): None, (1, 3): None}
    assert stage.frontier() == 3


@pytest.mark.parametrize("before", ["released", "open"])
def test_f3_a_doubt_without_a_payload_stops_the_frontier_until_the_record_comes_again(
    stage: Stage, before: str
) -> None:
    """Counterexample F3: the fence has no payload to write. It can be released, and not be claimed."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    stage.mark(a, claim, 1, 0)
    stage.die(a)
    assert stage.frontier() == 0, "neither the frontier nor an alter to it passes"
    if before == "released":
        assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    assert stage.claim_released(b, 0, 10) == []
    assert stage.member.released_count("payments") == 0
    result = stage.ask(b, stage.part(0, 1))
    assert result.granted == ()
    assert result.frontiers == {PLACE: 1}
    if before == "open":
        assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    assert stage.the_doubt().state is DoubtState.RELEASED
    (redo,) = stage.claim_released(b, 0, 10)
    assert stage.apply(b, redo.claim) == 1
    assert stage.outcomes() == {(0, 1): "redone"}
