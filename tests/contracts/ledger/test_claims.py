"""The arbiter (S5), marks (S4), give-backs, and the frontier (S2)."""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, PLACE, Stage, record

from airflow_kafka_exactly.errors import Fenced, StaleEpoch
from airflow_kafka_exactly.protocol.claims import (
    ClaimPart,
    ClaimResult,
    Mark,
    Opening,
    Segment,
    Verdict,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch


def parts(result: ClaimResult) -> dict[str, list[tuple[int, int]]]:
    return {
        "granted": [(c.range.start, c.range.stop) for c in result.granted],
        "settled": [(r.start, r.stop) for r in result.settled.get(PLACE, ())],
        "doubted": [(r.start, r.stop) for r in result.doubted.get(PLACE, ())],
    }


def test_what_is_free_is_granted_whatever_the_segments(stage: Stage) -> None:
    life = stage.life()
    batch = PartitionBatch(PLACE, OffsetRange(0, 6), stage.records(0, 6))
    result = stage.ask(
        life, ClaimPart(batch, tuple(Segment(OffsetRange(a, a + 2), False) for a in (0, 2, 4)))
    )
    assert parts(result) == {"granted": [(0, 6)], "settled": [], "doubted": []}
    assert result.frontiers == {PLACE: 0}
    assert result.granted[0].started == result.granted[0].applied == 0


def test_s5_every_offset_is_in_exactly_one_part_of_the_answer(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 10)
    stage.mark(a, claim, 6, 4)
    stage.raise_doubt(a, claim, 4)
    result = stage.ask(b, stage.part(2, 16, [(12, 14)]))
    assert parts(result) == {
        "granted": [(10, 12), (14, 16)],
        "settled": [(2, 4)],
        "doubted": [(4, 5), (5, 10), (12, 14)],
    }
    assert result.new_doubts == 7
    assert stage.doubted() == [
        (4, 5, "raised", "open"),
        *[(o, o + 1, "collision", "open") for o in range(5, 10)],
        *[(o, o + 1, "vote", "open") for o in range(12, 14)],
    ]
    assert result.frontiers == {PLACE: 10}, "durable doubts do not stop it, claims do"


def test_s4_an_old_epoch_is_asked_to_vote_again_and_leaves_nothing_behind(stage: Stage) -> None:
    life = stage.life()
    stage.new_epoch()
    stage.new_epoch()
    for epoch in (0, 1, 3):
        with pytest.raises(StaleEpoch):
            stage.ask(life, stage.part(0, 5, [(0, 2)]), epoch=epoch)
        with pytest.raises(StaleEpoch):
            stage.claim_released(life, epoch, 5)
    assert stage.doubts() == []
    assert parts(stage.ask(life, stage.part(0, 5)))["granted"] == [(0, 5)]


def test_a_lost_answer_is_given_again(stage: Stage) -> None:
    life, step = stage.life(), stage.next_step()
    asked = stage.part(0, 8, [(2, 4)])
    first = stage.ask(life, asked, step=step)
    again = stage.ask(life, asked, step=step)
    assert [c.claim_id for c in again.granted] == [c.claim_id for c in first.granted]
    assert parts(again) == parts(first)
    assert again.frontiers == first.frontiers
    assert (first.new_doubts, again.new_doubts) == (2, 0)


def test_a_lost_answer_is_given_again_although_the_epoch_was_raised_in_between(stage: Stage) -> None:
    """Its number is looked at before the epoch: what was granted stays granted, and its life hears of it."""
    life, step = stage.life(), stage.next_step()
    first = stage.ask(life, stage.part(0, 8, [(2, 4)]), step=step)
    old, stage.epoch = stage.epoch, stage.new_epoch()
    again = stage.ask(life, stage.part(0, 8, [(2, 4)]), step=step, epoch=old)
    assert parts(again) == parts(first)
    with pytest.raises(StaleEpoch):
        stage.ask(life, stage.part(8, 9), epoch=old)


def test_l1_a_late_copy_of_an_answered_question_grants_nothing(stage: Stage) -> None:
    """Asked twice, answered, given back, and then the first copy is executed: its life would not know of a claim."""
    a, b, step = stage.life("a"), stage.life("b"), stage.next_step()
    asked = stage.part(0, 8, [(2, 4)])
    for claim in stage.ask(a, asked, step=step).granted:
        stage.member.give_back(a, claim.claim_id, claim.range.start)
    late = stage.ask(a, asked, step=step)
    assert late.granted == ()
    assert late.new_doubts == 0
    assert parts(stage.ask(b, stage.part(0, 8)))["granted"] == [(0, 2), (4, 8)]


def test_l1_a_late_copy_that_newer_questions_have_passed_grants_nothing(stage: Stage) -> None:
    life = stage.life()
    older, newer = stage.next_step(), stage.next_step()
    stage.apply(life, *stage.ask(life, stage.part(0, 2), step=newer).granted)
    late = stage.ask(life, stage.part(2, 4, [(3, 4)]), step=older)
    assert (late.granted, late.new_doubts, stage.doubts()) == ((), 0, [])
    assert parts(stage.ask(life, stage.part(2, 4)))["granted"] == [(2, 4)]


def test_l1_a_late_copy_of_asking_for_released_doubts_takes_no_other_doubt(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.doubt(a, 0, 2)
    for facts in stage.doubts():
        stage.decide(facts, Verdict.NOT_APPLIED)
    step = stage.next_step()
    (redo,) = stage.claim_released(a, stage.epoch, 1, step=step)
    assert stage.claim_released(a, stage.epoch, 1, step=step) == [redo]
    stage.apply(a, redo.claim)
    assert list(stage.claim_released(a, stage.epoch, 1, step=step)) == []
    assert [r.claim.range.start for r in stage.claim_released(b, stage.epoch, 5)] == [1]


def test_the_same_life_under_another_number_collides_with_itself(stage: Stage) -> None:
    life = stage.life()
    stage.claim(life, 0, 3)
    assert parts(stage.ask(life, stage.part(0, 3)))["doubted"] == [(0, 3)]


def test_several_partitions_each_with_its_own_answer(stage: Stage) -> None:
    life = stage.life()
    places = [Partition("topic-id-1", n, "payments-in") for n in (1, 2)]
    stage.member.open_partitions(life, CLUSTER, [Opening(p, 0, False) for p in places])
    asked = [
        ClaimPart(
            PartitionBatch(p, OffsetRange(0, n), stage.records(0, n)), (Segment(OffsetRange(0, n), n == 3),)
        )
        for p, n in zip(reversed(places), (3, 5), strict=True)
    ]
    result = stage.ask(life, *asked)
    assert [(c.partition.number, c.range.stop) for c in result.granted] == [(1, 5)]
    assert result.doubted == {places[1]: (OffsetRange(0, 3),)}
    assert result.frontiers == {places[0]: 0, places[1]: 3}


# -- gaps


def test_h19_gaps_belong_to_the_record_before_them_or_to_a_doubt(stage: Stage) -> None:
    stage.gaps = {0, 1, 3, 4, 7, 8}
    life = stage.life()
    result = stage.ask(life, stage.part(0, 9, True))
    assert stage.doubted() == [(0, 3, "vote", "open"), (3, 6, "vote", "open"), (6, 9, "vote", "open")]
    assert result.frontiers == {PLACE: 9}


def test_a_range_without_a_record_is_claimed_even_if_its_vote_is_doubtful(stage: Stage) -> None:
    stage.gaps = {0, 1, 2}
    life = stage.life()
    (claim,) = stage.ask(life, stage.part(0, 3, True)).granted
    assert stage.apply(life, claim) == 3
    assert stage.doubts() == []


def test_a_gap_in_another_lifes_claim_is_no_doubt(stage: Stage) -> None:
    stage.gaps = {2, 3}
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 4)
    assert parts(stage.ask(b, stage.part(2, 4))) == {"granted": [], "settled": [], "doubted": [(2, 4)]}
    assert stage.doubts() == []
    assert stage.frontier() == 0
    assert stage.apply(a, claim) == 4


def test_l1_a_gap_in_a_claim_that_is_given_back_holds_up_nobody(stage: Stage) -> None:
    """Found by the simulator: a transaction's marker was polled by two members, and the one that claimed it died."""
    stage.gaps = {2}
    a, b = stage.life("a"), stage.life("b")
    stage.apply(a, stage.claim(a, 0, 2))
    stage.claim(a, 2, 3)
    assert parts(stage.ask(b, stage.part(2, 3))) == {"granted": [], "settled": [], "doubted": [(2, 3)]}
    assert stage.frontier() == 3
    stage.die(a)
    assert stage.doubts() == []
    assert stage.apply(b, stage.claim(b, 3, 4)) == 4


# -- marks


def test_marks_move_the_frontier_in_offset_order(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    first, second = stage.claim(a, 0, 5), stage.claim(b, 5, 10)
    assert stage.mark(b, second, 10, 10) == 0
    assert stage.mark(a, first, 5, 3) == 3
    assert stage.mark(a, first, 5, 5) == 10


def test_marks_of_several_claims_at_once(stage: Stage) -> None:
    life = stage.life()
    claims = [stage.claim(life, start, start + 2) for start in (0, 2, 4)]
    marks = [Mark(c.claim_id, c.range.stop, c.range.stop) for c in claims]
    assert stage.member.mark(life, marks) == {PLACE: 6}
    assert stage.member.mark(life, []) == {}


def test_f5_a_late_smaller_mark_lowers_nothing(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 8)
    stage.mark(life, claim, 6, 2)
    stage.mark(life, claim, 3, 1)
    stage.die(life)
    assert [(a, b) for a, b, *_ in stage.doubted()] == [(2, 6)]
    assert stage.frontier() == 2


def test_a_mark_asked_again_after_a_lost_answer_is_no_error(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 5)
    assert stage.apply(life, claim) == 5
    assert stage.apply(life, claim) == 5
    stage.life("a")
    assert stage.member.mark(life, [Mark(claim.claim_id, 5, 5)]) is not None, "superseded is not fenced"


def test_a_fenced_claim_refuses_its_marks_and_the_others_are_written(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    lost, held = stage.claim(a, 0, 5), stage.claim(b, 5, 8)
    stage.die(a)
    with pytest.raises(Fenced):
        stage.apply(a, lost)
    assert stage.frontier() == 0
    with pytest.raises(Fenced):
        stage.member.mark(a, [Mark(held.claim_id, 8, 8)])  # another life's claim
    assert stage.member.mark(b, [Mark(held.claim_id, 8, 6)]) == {PLACE: 0}


def test_s4_marks_need_no_epoch(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 5)
    stage.new_epoch()
    assert stage.mark(life, claim, 5, 4) == 4, "a failover turns no success into a doubt (H15)"
    stage.member.give_back(life, claim.claim_id, 5)


# -- give-backs


def test_a_give_back_ends_the_claim_and_only_it_lowers_started(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 10)
    stage.mark(a, claim, 8, 4)
    stage.member.give_back(a, claim.claim_id, 5)
    assert parts(stage.ask(b, stage.part(4, 10)))["granted"] == [(5, 10)]
    stage.die(a)
    assert stage.doubted() == [(4, 5, "window", "open")]


def test_giving_everything_back_leaves_nothing(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 10)
    stage.member.give_back(a, claim.claim_id, 0)
    stage.member.give_back(a, claim.claim_id, 0)
    stage.member.give_back(b, claim.claim_id, 0)
    assert stage.claim(b, 0, 10).claim_id > claim.claim_id


def test_a_give_back_never_takes_the_applied_part(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 10)
    stage.mark(life, claim, 10, 6)
    stage.member.give_back(life, claim.claim_id, 2)
    assert stage.frontier() == 6
    assert stage.doubts() == []


def test_only_its_own_life_gives_a_claim_back(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 3)
    stage.member.give_back(b, claim.claim_id, 0)
    assert stage.apply(a, claim) == 3


# -- what happened to a record


def test_case_04_the_frontier_never_passes_what_is_neither_settled_nor_doubted(stage: Stage) -> None:
    a, b, c = stage.life("a"), stage.life("b"), stage.life("c")
    low, middle, high = stage.claim(a, 0, 3), stage.claim(b, 3, 6), stage.claim(c, 6, 9)
    assert stage.apply(c, high) == 0
    assert stage.mark(b, middle, 6, 5) == 0
    assert stage.mark(a, low, 2, 2) == 2
    assert stage.raise_doubt(a, low, 2) == 5, "a durable doubt is passed"
    stage.die(b)
    assert stage.frontier() == 5, "the window's doubt has no payload"
    result = stage.ask(a, stage.part(5, 9))
    assert parts(result) == {"granted": [], "settled": [(6, 9)], "doubted": [(5, 6)]}
    assert result.frontiers == {PLACE: 9}, "now it is durable"


def test_case_43_a_failed_record_is_a_dead_letter_or_stays_never_neither(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 6)
    stage.mark(life, claim, 3, 2)
    assert stage.member.bury(life, claim, [record(2)], 3, "poison", 3) == 3
    assert stage.member.bury(life, claim, [record(2)], 3, "poison", 3) == 3  # a lost answer
    (letter,) = stage.report.dead_letters(None)
    assert (letter["offset"], letter["reason"], letter["attempts"]) == (2, "poison", 3)
    assert stage.apply(life, claim) == 6
    other = stage.life("b")
    assert parts(stage.ask(other, stage.part(0, 6)))["settled"] == [(0, 6)]
    assert stage.report.reconcile("payments", {PLACE: 6}) == []


def test_burying_the_last_record_ends_the_claim(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 3)
    stage.mark(life, claim, 3, 2)
    assert stage.member.bury(life, claim, [record(2)], 3, "poison", 3) == 3
    assert stage.apply(life, claim) == 3


def test_a_fenced_life_buries_and_doubts_nothing(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 3)
    stage.mark(life, claim, 1, 0)
    stage.die(life)
    with pytest.raises(Fenced):
        stage.member.bury(life, claim, [record(0)], 1, "poison", 3)
    with pytest.raises(Fenced):
        stage.raise_doubt(life, claim, 0)
    assert stage.doubted() == [(0, 1, "window", "open")]


def test_a_batch_function_is_one_unit_with_one_doubt(stage: Stage) -> None:
    """H10: one start, one mark, one doubt, the same records in the same order."""
    life = stage.life()
    claim = stage.claim(life, 0, 6, unit=True)
    stage.mark(life, claim, 6, 0)
    stage.member.raise_doubt(life, claim, stage.records(0, 6), 6, "ValueError")
    facts = stage.the_doubt()
    assert (facts.range, facts.unit, facts.durable) == (OffsetRange(0, 6), True, True)
    assert [r.offset for r in stage.evidence.payload(facts.doubt_id)] == list(range(6))
    assert stage.frontier() == 6


def test_a_units_window_is_one_doubt_that_becomes_durable_piece_by_piece(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 6, unit=True)
    stage.mark(a, claim, 6, 0)
    stage.die(a)
    assert not stage.the_doubt().durable
    stage.ask(b, stage.part(0, 4), unit=True)
    assert not stage.the_doubt().durable, "half of a unit is nothing to judge by"
    assert stage.frontier() == 0
    result = stage.ask(b, stage.part(4, 9), unit=True)
    assert parts(result) == {"granted": [(6, 9)], "settled": [], "doubted": [(4, 6)]}
    assert stage.the_doubt().durable
    assert stage.frontier() == 6


@pytest.mark.parametrize("decide", ["raise_doubt", "bury"])
@pytest.mark.parametrize(("offset", "why"), [(8, "given back"), (1, "applied")])
def test_l1_nothing_is_decided_about_a_record_that_the_claim_does_not_hold(
    stage: Stage, decide: str, offset: int, why: str
) -> None:
    """Beyond what was given back, the records in between would count as applied that nobody ran; below the applied mark, a
    record would have two outcomes."""
    life = stage.life()
    claim = stage.claim(life, 0, 10)
    stage.mark(life, claim, 3, 2)
    stage.member.give_back(life, claim.claim_id, 3)
    attempts = [1] if decide == "bury" else []
    with pytest.raises(Fenced):
        getattr(stage.member, decide)(life, claim, [record(offset)], offset + 1, "no", *attempts)
    assert stage.doubted() == [], why
    assert stage.frontier() == 2
    assert [c.range for c in stage.ask(life, stage.part(3, 10)).granted] == [OffsetRange(3, 10)]


def test_l1_a_decision_that_was_heard_late_is_not_refused(stage: Stage) -> None:
    """Its answer was lost: it is below the claim by now, and done."""
    life = stage.life()
    claim = stage.claim(life, 0, 10)
    for frontier in (4, 6):
        assert stage.raise_doubt(life, claim, 3) == frontier
        assert stage.member.bury(life, claim, [record(5)], 6, "no", 1) == 6
    assert stage.doubted() == [(3, 4, "raised", "open")]


def test_s2_a_frontier_that_gets_unstuck_passes_whatever_was_settled_above_it(stage: Stage) -> None:
    """Many claims, doubts that are closed or durable, and a part of a claim, up to the first record that is none of them."""
    a, b = stage.life("a"), stage.life("b")
    slow = stage.claim(a, 0, 1)
    for start in range(1, 101, 5):
        stage.apply(a, stage.claim(a, start, start + 3))
        stage.doubt(b, start + 3, start + 5)
    for facts in stage.doubts()[::2]:
        assert stage.decide(facts, Verdict.APPLIED)
    last = stage.claim(a, 101, 110)
    stage.mark(a, last, 105, 104)
    assert stage.apply(b, stage.claim(b, 115, 120)) == 0
    assert stage.apply(a, slow) == 104
    assert stage.apply(a, last) == 110
    assert stage.doubt(b, 110, 115).frontiers == {PLACE: 120}
    assert len(stage.doubts()) == 25
