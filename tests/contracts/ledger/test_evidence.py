"""Doubts from their beginning to their end (section 6, S7)."""

from __future__ import annotations

import pytest
from ledger_stage import GROUP, LEASE_S, PLACE, TOPIC, Stage, record

from airflow_kafka_exactly.protocol.claims import CheckReference, DoubtKind, DoubtState, LifeKind, Verdict
from airflow_kafka_exactly.protocol.evidence import Answer
from airflow_kafka_exactly.protocol.record import OffsetRange


def test_a_vote_doubt_in_no_claim_is_released_and_redone(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.doubt(a, 0, 1)
    assert stage.weigh(stage.the_doubt()) is True
    assert stage.the_doubt().state is DoubtState.RELEASED
    assert stage.member.released_count(GROUP) == stage.leader.released_count(GROUP) == 1
    (redo,) = stage.claim_released(b, 0, 10)
    assert redo.records == (record(0),)
    assert stage.the_doubt().state is DoubtState.CLAIMED
    stage.apply(b, redo.claim)
    assert stage.outcomes() == {(0, 1): "redone"}


def test_a_collision_waits_for_the_claim_and_is_discarded_when_that_is_applied(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 3)
    stage.ask(b, stage.part(0, 3))
    facts = stage.doubts()[1]
    assert (facts.claim_id, facts.claim_started, facts.slot) == (claim.claim_id, False, "a")
    assert 0 < facts.lease_left_s <= LEASE_S
    assert stage.weigh(facts) is None
    stage.mark(a, claim, 3, 0)
    assert stage.doubts()[1].claim_started
    assert stage.weigh(stage.doubts()[1]) is None
    stage.apply(a, claim)
    assert [f.settled_elsewhere for f in stage.doubts()] == [True] * 3
    assert [stage.weigh(f) for f in stage.doubts()] == [True] * 3
    assert set(stage.outcomes().values()) == {"discarded"}


@pytest.mark.parametrize("verdict", [Verdict.APPLIED, Verdict.NOT_APPLIED])
def test_h30_nobody_rules_over_an_open_claim(stage: Stage, verdict: Verdict) -> None:
    """Only its own life, or its fence, ends a claim: neither a person nor evidence does."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    stage.ask(b, stage.part(0, 1))
    assert not stage.decide(stage.the_doubt(), verdict, by="person")
    assert not stage.decide(stage.the_doubt(), Verdict.UNKNOWN, by="person", dead_letter=True)
    stage.apply(a, claim)
    assert not stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED), "it was applied meanwhile"
    assert stage.decide(stage.the_doubt(), Verdict.APPLIED)


def test_a_claim_given_back_frees_the_doubt_about_it(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 2)
    stage.ask(b, stage.part(1, 2))
    stage.member.give_back(a, claim.claim_id, 0)
    facts = stage.the_doubt()
    assert (facts.claim_id, facts.settled_elsewhere) == (None, False)
    assert stage.weigh(facts) is True
    assert [r.claim.range for r in stage.claim_released(a, 0, 9)] == [OffsetRange(1, 2)]


def test_the_window_of_a_fenced_life_needs_the_check(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 4)
    stage.mark(a, claim, 3, 1)
    stage.ask(b, stage.part(0, 4))
    stage.die(a)
    assert stage.doubted() == [
        (1, 2, "window", "open"),
        (2, 3, "window", "open"),
        (3, 4, "collision", "open"),
    ]
    first, second, rest = stage.doubts()
    assert first.lease_left_s == 0
    assert first.since_lease_end_s > 0
    assert stage.weigh(first) is None
    assert stage.weigh(first, Answer.YES) is True
    assert stage.weigh(second, Answer.NO) is True
    assert stage.weigh(rest) is True
    redos = stage.claim_released(b, 0, 10)
    assert [r.claim.range.start for r in redos] == [2, 3]
    for redo in redos:
        stage.apply(b, redo.claim)
    assert list(stage.outcomes().values()) == ["discarded", "redone", "redone"]
    assert stage.frontier() == 4


def test_a_check_counts_only_after_effect_timeout(stage: Stage) -> None:
    life = stage.life("a", check=CheckReference(path="shop:paid", effect_timeout_s=10))
    stage.raise_doubt(life, stage.claim(life, 0, 1), 0)
    assert stage.weigh(stage.the_doubt(), Answer.NO) is None
    stage.pass_time(11)
    assert stage.weigh(stage.the_doubt(), Answer.NO) is True


def test_the_check_is_that_of_the_slots_newest_worker(stage: Stage) -> None:
    """A check that was repaired and deployed since counts for old doubts too; a trigger has none."""
    old = stage.life("a", check=CheckReference(path="shop:broken"))
    stage.raise_doubt(old, stage.claim(old, 0, 1), 0)
    new = CheckReference(
        path="shop:repaired", args=("x",), kwargs={"n": 1}, batch=True, on_undecidable="discard"
    )
    stage.life("a", check=new)
    stage.life("a", check=CheckReference(), kind=LifeKind.TRIGGER)
    facts = stage.the_doubt()
    assert (facts.check.path, facts.check.kwargs, facts.check.batch) == ("shop:repaired", {"n": 1}, True)
    assert tuple(facts.check.args) == ("x",)
    assert (facts.slot, facts.incarnation) == ("a", 1)


# -- verdicts are bound to what was judged


def test_a_second_evidence_run_is_a_no_op(stage: Stage) -> None:
    stage.doubt(stage.life(), 0, 1)
    facts = stage.the_doubt()
    assert stage.decide(facts, Verdict.NOT_APPLIED)
    assert not stage.decide(facts, Verdict.NOT_APPLIED)
    assert not stage.decide(facts, Verdict.APPLIED, by="a late person")
    assert stage.the_doubt().state is DoubtState.RELEASED


def test_h22_a_verdict_of_the_life_before_is_refused(stage: Stage) -> None:
    """The ABA of two evidence runs: the same doubt, in doubt for another reason by now."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    stage.raise_doubt(a, claim, 0)
    judged = stage.the_doubt()
    assert stage.decide(judged, Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b, 0, 1)
    stage.raise_doubt(b, redo.claim, 0)
    now = stage.the_doubt()
    assert (now.doubt_id, now.kind, now.state) == (judged.doubt_id, DoubtKind.RAISED, DoubtState.OPEN)
    assert now.slot == "b"
    assert not stage.decide(judged, Verdict.NOT_APPLIED)
    assert stage.decide(now, Verdict.APPLIED)


def test_s7_unknown_stays_open_for_a_person(stage: Stage) -> None:
    life = stage.life()
    stage.raise_doubt(life, stage.claim(life, 0, 1), 0)
    asked = stage.the_doubt()
    assert stage.decide(asked, Verdict.UNKNOWN, by="check")
    now = stage.the_doubt()
    assert now.state is DoubtState.OPEN
    assert now.version > asked.version
    (row,) = stage.report.doubts(GROUP, True)
    assert (row["verdict"], row["decided_by"]) == ("unknown", "check")
    assert stage.decide(now, Verdict.APPLIED, by="Ada")


def test_a_ruling_can_make_it_a_dead_letter(stage: Stage) -> None:
    life = stage.life()
    stage.raise_doubt(life, stage.claim(life, 0, 1), 0)
    assert stage.decide(stage.the_doubt(), Verdict.UNKNOWN, by="Ada", dead_letter=True)
    (letter,) = stage.report.dead_letters(GROUP)
    assert (letter["offset"], letter["buried_by"]) == (0, "Ada")
    assert stage.outcomes() == {(0, 1): "dead_letter"}
    assert stage.report.reconcile(GROUP, {PLACE: 1}) == []


def test_a_doubt_without_a_payload_that_is_given_up_is_lost_and_no_dead_letter(stage: Stage) -> None:
    life = stage.life()
    stage.mark(life, stage.claim(life, 0, 1), 1, 0)
    stage.die(life)
    assert stage.decide(stage.the_doubt(), Verdict.UNKNOWN, by="Ada", dead_letter=True)
    assert stage.outcomes() == {(0, 1): "lost"}
    assert stage.report.dead_letters(GROUP) == []
    assert stage.frontier() == 1


def test_a_verdict_on_a_window_without_payload_moves_the_frontier(stage: Stage) -> None:
    life = stage.life()
    stage.mark(life, stage.claim(life, 0, 1), 1, 0)
    stage.die(life)
    assert stage.decide(stage.the_doubt(), Verdict.APPLIED, by="Ada")
    assert stage.frontier() == 1


# -- announcing


def test_open_doubts_are_announced_once_and_again_when_the_event_was_lost(stage: Stage) -> None:
    stage.doubt(stage.life(), 0, 3)
    assert len(stage.evidence.announce(2, 60)) == 2
    assert len(stage.evidence.announce(2, 60)) == 1
    assert stage.evidence.announce(2, 60) == []
    stage.pass_time(61)
    assert len(stage.evidence.announce(10, 60)) == 3
    assert len(stage.evidence.announce(10, 0)) == 3, "a sweep asks for all"


def test_l1_every_open_doubt_has_its_turn_to_be_announced(stage: Stage) -> None:
    """Doubts that nothing closes, due again at once, must not starve the newer ones."""
    stage.doubt(stage.life(), 0, 40)
    announced = [f.range.start for _ in range(4) for f in stage.evidence.announce(10, 0)]
    assert sorted(announced) == list(range(40))


def test_decided_doubts_are_not_announced(stage: Stage) -> None:
    stage.doubt(stage.life(), 0, 1)
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    assert stage.evidence.announce(10, 0) == []


def test_a_doubt_that_a_check_is_on_is_held_back_until_it_changes(stage: Stage) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    stage.mark(a, claim, 1, 0)
    stage.ask(b, stage.part(0, 1))
    (facts,) = stage.evidence.announce(10, 60)
    stage.evidence.hold({facts.doubt_id: facts.version}, 600)
    stage.pass_time(LEASE_S + 100)
    assert stage.evidence.announce(10, 60) == []
    assert stage.leader.fence(0, a)
    (again,) = stage.evidence.announce(10, 60)
    assert again.kind is DoubtKind.WINDOW, "it changed"
    now = {again.doubt_id: again.version}
    stage.evidence.hold(now, 600)
    stage.evidence.hold(now, 0)
    assert len(stage.evidence.announce(10, 60)) == 1, "given up: at once"
    stage.evidence.hold(now, 600)
    stage.pass_time(601)
    assert len(stage.evidence.announce(10, 60)) == 1


def test_s7_a_doubt_that_has_changed_since_it_was_judged_is_not_held(stage: Stage) -> None:
    """Else a person who was asked about the doubt as it was silences, for a day, the new question of which nobody knows."""
    a, b = stage.life("a"), stage.life("b")
    stage.raise_doubt(a, stage.claim(a, 0, 1), 0)
    judged = stage.the_doubt()
    stage.decide(judged, Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b, 0, 5)
    stage.raise_doubt(b, redo.claim, 0)
    stage.evidence.hold({judged.doubt_id: judged.version}, 7 * 86400)
    assert [f.doubt_id for f in stage.evidence.announce(10, 60)] == [judged.doubt_id]
    now = stage.the_doubt()
    stage.evidence.hold({now.doubt_id: now.version}, 600)
    stage.evidence.hold({judged.doubt_id: judged.version}, 0)
    assert stage.evidence.announce(10, 60) == [], "nor is it let go by the older run"


def test_doubts_are_found_by_range(stage: Stage) -> None:
    stage.doubt(stage.life(), 0, 5)
    found = stage.evidence.find(GROUP, TOPIC, 0, OffsetRange(1, 3))
    assert [f.range.start for f in found] == [1, 2]
    assert stage.evidence.find(GROUP, TOPIC, 1, OffsetRange(1, 3)) == []
    assert stage.evidence.find("another", TOPIC, 0, OffsetRange(1, 3)) == []
    assert stage.evidence.facts_of([]) == []
    assert [f.doubt_id for f in stage.evidence.facts_of([found[1].doubt_id, -1])] == [found[1].doubt_id]
