"""A window of which nobody knows yet which offsets hold a record is one row, whatever gaps it spans (L1)."""

from __future__ import annotations

import itertools
import time

import pytest
from ledger_stage import GROUP, PLACE, PostgresStage, Stage, record

from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimPart,
    ClaimRequest,
    DoubtState,
    Life,
    Segment,
    Verdict,
)
from airflow_kafka_exactly.protocol.evidence import Answer
from airflow_kafka_exactly.protocol.record import OffsetRange, PartitionBatch

WIDE = 2_000_000


def part(start: int, stop: int, *offsets: int) -> ClaimPart:
    span = OffsetRange(start, stop)
    return ClaimPart(PartitionBatch(PLACE, span, tuple(record(o) for o in offsets)), (Segment(span, False),))


def claim(stage: Stage, life: Life, asked: ClaimPart) -> Claim:
    (granted,) = stage.member.claim(ClaimRequest(life, stage.epoch, stage.next_step(), (asked,))).granted
    return granted


def test_l1_a_fence_over_a_window_of_two_million_offsets_is_quick(stage: Stage) -> None:
    """A stopped consumer comes back after retention has passed its offset, and its first window lies above the gap."""
    a, b = stage.life("a"), stage.life("b")
    wide = part(0, WIDE + 10, *range(WIDE, WIDE + 10))
    first = claim(stage, a, wide)
    stage.mark(a, first, WIDE + 1, 0)
    since = time.monotonic()
    stage.die(a)
    took_s = time.monotonic() - since
    assert took_s < 2.0, "it took 18 s for 100,000 offsets, and never ended for 500,000"
    assert stage.doubted() == [(0, WIDE + 1, "window", "open")]
    again = stage.member.claim(ClaimRequest(b, stage.epoch, stage.next_step(), (wide,)))
    assert [c.range for c in again.granted] == [OffsetRange(WIDE + 1, WIDE + 10)]
    (facts,) = stage.doubts()
    assert (facts.range, facts.durable) == (OffsetRange(0, WIDE + 1), True)
    assert stage.evidence.payload(facts.doubt_id) == [record(WIDE)]
    assert stage.frontier() == WIDE + 1
    assert stage.weigh(facts, Answer.YES) is True
    assert stage.outcomes() == {(0, WIDE + 1): "discarded"}


def test_a_window_is_judged_record_by_record_once_its_payload_has_come(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, claim(stage, a, part(0, 9, 0, 2, 3, 7)), 9, 0)
    stage.die(a)
    window = stage.the_doubt()
    assert stage.weigh(window, Answer.NO) is None, "it waits for its payload"
    stage.ask(b, part(0, 9, 0, 2, 3, 7))
    assert stage.doubted() == [(x, y, "window", "open") for x, y in ((0, 1), (1, 3), (3, 4), (4, 9))]
    assert [[r.offset for r in stage.evidence.payload(f.doubt_id)] for f in stage.doubts()] == [
        [0],
        [2],
        [3],
        [7],
    ]
    assert stage.doubts()[0].doubt_id == window.doubt_id
    assert not stage.decide(window, Verdict.NOT_APPLIED, by="check"), (
        "a verdict on all of it is one on another doubt"
    )
    answers = [Answer.YES, Answer.NO, Answer.NO, Answer.YES]
    assert [stage.weigh(f, answer) for f, answer in zip(stage.doubts(), answers, strict=True)] == [True] * 4
    redos = stage.claim_released(b, stage.epoch, 9)
    assert [[r.offset for r in redo.records] for redo in redos] == [[2], [3]]
    for redo in redos:
        stage.apply(b, redo.claim)
    assert list(stage.outcomes().values()) == ["discarded", "redone", "redone", "discarded"]
    assert stage.frontier() == 9
    assert stage.report.reconcile(GROUP, {PLACE: 9}) == []


@pytest.mark.parametrize("cuts", [(0, 3, 6, 10), (0, 6, 10), (3, 6, 0, 3, 6, 10), (6, 10, 0, 6)])
def test_a_window_whose_payload_comes_in_parts_is_split_as_far_as_it_reaches(
    stage: Stage, cuts: tuple[int, ...]
) -> None:
    """In any order; a part may hold no record at all."""
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, claim(stage, a, part(0, 10, 0, 1, 8, 9)), 10, 0)
    stage.die(a)
    for start, stop in itertools.pairwise(cuts):
        if start < stop:
            stage.ask(b, part(start, stop, *(o for o in (0, 1, 8, 9) if start <= o < stop)))
    doubts = sorted(stage.doubts(), key=lambda f: f.range.start)
    assert [[r.offset for r in stage.evidence.payload(f.doubt_id)] for f in doubts] == [[0], [1], [8], [9]]
    assert all(f.durable for f in doubts)
    assert stage.frontier() == 10
    assert {outcome for outcome in stage.outcomes().values() if outcome} <= {"no_record"}


def test_the_frontier_stops_where_the_payload_of_a_window_ends(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, claim(stage, a, part(0, 10, 0, 5, 9)), 10, 0)
    stage.die(a)
    stage.ask(b, part(0, 6, 0, 5))
    assert stage.doubted() == [(0, 1, "window", "open"), (1, 6, "window", "open"), (6, 10, "window", "open")]
    assert [f.durable for f in stage.doubts()] == [True, True, False]
    assert stage.frontier() == 6


def test_a_verdict_on_a_window_without_payload_counts_for_all_of_it(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, claim(stage, a, part(0, 4, 0, 3)), 4, 0)
    stage.die(a)
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED, by="Ada")
    assert stage.claim_released(b, stage.epoch, 9) == []
    stage.ask(b, part(0, 4, 0, 3))
    assert [f.state for f in stage.doubts()] == [DoubtState.RELEASED] * 2
    assert [[r.offset for r in x.records] for x in stage.claim_released(b, stage.epoch, 9)] == [
        [0],
        [3],
    ]


def test_a_window_around_doubts_that_stand_there_is_the_rest(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, claim(stage, a, part(0, 9, *range(9))), 9, 0)
    stage.ask(b, part(4, 6, 4, 5))
    stage.die(a)
    assert sorted((x, y) for x, y, *_ in stage.doubted()) == [(0, 4), (4, 5), (5, 6), (6, 9)]
    assert {kind for *_, kind, _ in stage.doubted()} == {"window"}


def test_a_leader_loads_no_gap_that_the_frontier_has_passed(stage: Stage) -> None:
    a = stage.life("a")
    first = claim(stage, a, part(0, WIDE + 10, *range(WIDE, WIDE + 10)))
    stage.mark(a, first, WIDE + 5, WIDE)
    if isinstance(stage, PostgresStage):
        stage.sql("update kafka_exactly.partition set committed = frontier")
    else:
        for place in stage.ledger.state.places.values():
            place.committed = place.frontier
    assert [(r.start, r.stop) for _, r in stage.leader.load(GROUP).ranges] == [(WIDE, WIDE + 10)]
