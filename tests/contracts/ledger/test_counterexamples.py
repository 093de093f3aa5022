"""The counterexamples that a model checker found in earlier texts of the protocol, as far as they live in the ledger.

(1) to (8) are those of the first review, F1 to F5 those of the second (F3 and F5 are in `test_payload` and `test_claims`, F4 is
about business keys, which no claim holds yet). Each is told the way the trace went, and ends well here.
"""

from __future__ import annotations

import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, Stage

from airflow_kafka_exactly.errors import Fenced, StaleEpoch
from airflow_kafka_exactly.protocol.claims import DoubtKind, DoubtState, Opening, OrphanState, Verdict
from airflow_kafka_exactly.protocol.evidence import Answer


def test_counterexample_1_a_vote_from_before_the_claim_was_applied(stage: Stage) -> None:
    """Both were voted fresh. The arbiter knows claims in any state, not only live ones (H1)."""
    a0, b0 = stage.life("a"), stage.life("b")
    voted_long_ago = stage.part(0, 1)
    stage.apply(a0, stage.claim(a0, 0, 1))
    result = stage.ask(b0, voted_long_ago)
    assert result.granted == ()
    assert [(r.start, r.stop) for r in result.settled[PLACE]] == [(0, 1)]


def test_counterexample_1_also_when_the_settled_claim_is_not_folded(stage: Stage) -> None:
    a0, b0 = stage.life("a"), stage.life("b")
    blocking = stage.claim(a0, 0, 1)
    stage.apply(a0, stage.claim(a0, 1, 2))
    result = stage.ask(b0, stage.part(1, 2))
    assert result.granted == ()
    assert stage.apply(a0, blocking) == 2


def test_counterexample_2_a_new_leader_loads_unfolded_claims_too(stage: Stage) -> None:
    """H14: not only live ones, and not before the epoch is raised."""
    life = stage.life()
    stage.claim(life, 0, 1)
    stage.apply(life, stage.claim(life, 1, 2))
    stage.new_epoch()
    known = stage.leader.load(GROUP)
    ids = {o for partition, span in known.ranges for o in range(span.start, span.stop) if partition == PLACE}
    assert (known.cluster_id, ids) == (CLUSTER, {0, 1})
    with pytest.raises(StaleEpoch):
        stage.ask(life, stage.part(2, 3), epoch=0)


def test_counterexample_3_a_takeover_does_not_end_the_old_lease(stage: Stage) -> None:
    """a0 has started 0; a1 opens the slot. Nothing may judge 0 before a0's own lease is over (H2)."""
    a0 = stage.life("a")
    claim = stage.claim(a0, 0, 1)
    stage.mark(a0, claim, 1, 0)
    a1 = stage.life("a")
    assert not stage.leader.fence(0, a0)
    assert stage.ask(a1, stage.part(0, 1)).granted == ()
    facts = stage.the_doubt()
    assert (facts.incarnation, facts.lease_left_s > 0) == (1, True)
    assert stage.weigh(facts, Answer.NO) is None
    assert not stage.decide(facts, Verdict.NOT_APPLIED)
    stage.apply(a0, claim)  # its effect was on the way, and counts
    assert stage.weigh(stage.the_doubt()) is True
    assert stage.outcomes() == {(0, 1): "discarded"}


def test_counterexample_4_a_released_doubt_is_not_granted_to_whoever_polls_it(stage: Stage) -> None:
    """H6: one doubt per record is the token; a vote that is blind to it changes nothing."""
    a0, b0 = stage.life("a"), stage.life("b")
    stage.mark(a0, stage.claim(a0, 0, 1), 1, 0)
    stage.die(a0)
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    assert stage.ask(b0, stage.part(0, 1)).granted == (), "voted fresh, and it is doubted"
    (redo,) = stage.claim_released(b0, 0, 5)
    assert stage.claim_released(b0, 0, 5) == []
    stage.apply(b0, redo.claim)
    assert stage.ask(b0, stage.part(0, 1)).granted == ()


def test_counterexample_5_a_doubt_written_without_a_vote_that_was_redone(stage: Stage) -> None:
    """S6: whatever a leader has not heard of, the ledger has."""
    a0, b0 = stage.life("a"), stage.life("b")
    stage.doubt(a0, 0, 1)
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b0, 0, 1)
    stage.apply(b0, redo.claim)
    result = stage.ask(a0, stage.part(0, 1))
    assert (result.granted, len(result.settled[PLACE])) == ((), 1)


@pytest.mark.parametrize("started", [False, True])
def test_counterexample_6_a_redo_whose_life_dies_is_in_question_again(stage: Stage, started: bool) -> None:
    """H12: Kafka never delivers it again, so the fence itself must reopen it."""
    a0, b0 = stage.life("a"), stage.life("b")
    stage.doubt(a0, 0, 1)
    assert stage.frontier() == 1, "the offset commit has passed it"
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b0, 0, 1)
    if started:
        stage.mark(b0, redo.claim, 1, 0)
    stage.die(b0)
    facts = stage.the_doubt()
    if not started:
        assert facts.state is DoubtState.RELEASED
    else:
        assert (facts.kind, facts.state, facts.slot, facts.durable) == (
            DoubtKind.WINDOW,
            DoubtState.OPEN,
            "b",
            True,
        )
        assert stage.weigh(facts, Answer.NO) is True
    (again,) = stage.claim_released(a0, 0, 1)
    assert again.records == redo.records
    stage.apply(a0, again.claim)
    assert stage.outcomes() == {(0, 1): "redone"}


def test_counterexample_7_a_crash_between_the_refused_offset_commit_and_its_row(stage: Stage) -> None:
    """S8: settled and not known to be committed is an orphan commit, also if its life could not write it (H13)."""
    a0 = stage.life("a")
    stage.apply(a0, stage.claim(a0, 0, 4))
    assert stage.leader.sweep_orphans(0) == [], "its life may still commit"
    stage.die(a0)
    (orphan,) = stage.leader.sweep_orphans(0)
    assert (orphan.range.start, orphan.range.stop, orphan.state) == (0, 4, OrphanState.OPEN)
    assert stage.leader.sweep_orphans(0) == [orphan], "once"


def test_counterexample_8_a_late_alter_of_a_deposed_leader(stage: Stage) -> None:
    """H17: what is known is the offset last read back; a drained row above it is open again, and its ids are known again."""
    a0 = stage.life("a")
    stage.apply(a0, stage.claim(a0, 0, 2))
    stage.member.refused(a0, {PLACE: 2}, "ILLEGAL_GENERATION")
    stage.new_epoch()
    stage.leader.read_back(1, GROUP, {PLACE: 2})
    (orphan,) = stage.leader.sweep_orphans(1)
    assert stage.leader.close_orphan(1, orphan.orphan_id, OrphanState.ALTERED)
    (again,) = stage.leader.read_back(1, GROUP, {PLACE: 1})
    assert (again.orphan_id, again.state) == (orphan.orphan_id, OrphanState.OPEN)
    assert (PLACE, 1) in {(p, r.start) for p, r in stage.leader.load(GROUP).ranges}
    b0 = stage.life("b", opened=False)
    assert stage.member.open_partitions(b0, CLUSTER, [Opening(PLACE, 1, True)]) == {PLACE: 2}, (
        "nothing runs twice"
    )


def test_f1a_what_was_raised_is_never_released_because_it_is_in_no_claim(stage: Stage) -> None:
    """The function raised after its effect; the record is cut out of its claim."""
    a0, b0 = stage.life("a"), stage.life("b")
    claim = stage.claim(a0, 0, 2)
    stage.mark(a0, claim, 1, 0)
    assert stage.raise_doubt(a0, claim, 0) == 1
    facts = stage.the_doubt()
    assert (facts.kind, facts.claim_id, facts.settled_elsewhere, facts.durable) == (
        DoubtKind.RAISED,
        None,
        False,
        True,
    )
    assert stage.weigh(facts) is None, "the check, whether or not that life is alive"
    assert stage.claim_released(b0, 0, 1) == []
    assert stage.weigh(facts, Answer.YES) is True
    assert stage.outcomes() == {(0, 1): "discarded"}


def test_f1b_no_later_mark_covers_what_was_raised(stage: Stage) -> None:
    """0 raised before its effect, 1 ran: 0 is not settled by 1's applied mark."""
    a0, b0 = stage.life("a"), stage.life("b")
    claim = stage.claim(a0, 0, 2)
    stage.mark(a0, claim, 2, 0)
    stage.raise_doubt(a0, claim, 0)
    assert stage.apply(a0, claim) == 2
    facts = stage.the_doubt()
    assert (facts.range.start, facts.settled_elsewhere) == (0, False)
    assert stage.weigh(facts, Answer.NO) is True
    (redo,) = stage.claim_released(b0, 0, 1)
    stage.apply(b0, redo.claim)
    assert stage.outcomes() == {(0, 1): "redone"}


def test_f1_what_lies_below_a_raised_record_is_settled_with_it(stage: Stage) -> None:
    a0 = stage.life("a")
    claim = stage.claim(a0, 0, 4)
    stage.mark(a0, claim, 4, 1)
    assert stage.raise_doubt(a0, claim, 2) == 3
    assert stage.raise_doubt(a0, claim, 2) == 3, "a lost answer"
    stage.die(a0)
    assert stage.doubted() == [(2, 3, "raised", "open"), (3, 4, "window", "open")]


def test_f1_a_doubt_of_another_member_about_a_raised_record_becomes_that_one(stage: Stage) -> None:
    a0, b0 = stage.life("a"), stage.life("b")
    claim = stage.claim(a0, 0, 3)
    stage.ask(b0, stage.part(1, 3))
    stage.raise_doubt(a0, claim, 1)
    stage.apply(a0, claim)
    assert stage.doubted() == [(1, 2, "raised", "open"), (2, 3, "collision", "open")]
    assert [f.settled_elsewhere for f in stage.doubts()] == [False, True]


def test_f2_giving_a_claimed_doubt_back_releases_it_again(stage: Stage) -> None:
    """Closing it with its claim would lose the record under the committed offset."""
    a0, b0 = stage.life("a"), stage.life("b")
    stage.doubt(a0, 0, 1)
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b0, 0, 1)
    stage.member.give_back(b0, redo.claim.claim_id, redo.claim.range.start)
    assert stage.the_doubt().state is DoubtState.RELEASED
    (redo,) = stage.claim_released(b0, 0, 1)
    stage.member.close_life(b0)
    assert stage.the_doubt().state is DoubtState.RELEASED
    (redo,) = stage.claim_released(a0, 0, 1)
    stage.apply(a0, redo.claim)
    assert stage.outcomes() == {(0, 1): "redone"}


def test_fences_that_shrink_claims_let_the_rest_be_claimed(stage: Stage) -> None:
    """A fenced claim keeps only its applied part, or S5 would refuse every redo."""
    a0, b0 = stage.life("a"), stage.life("b")
    below, claim = stage.claim(a0, 0, 1), stage.claim(a0, 1, 9)
    stage.mark(a0, claim, 6, 3)
    stage.die(a0)
    with pytest.raises(Fenced):
        stage.apply(a0, below)
    result = stage.ask(b0, stage.part(0, 9))
    assert [(c.range.start, c.range.stop) for c in result.granted] == [(0, 1), (6, 9)]
    assert [(r.start, r.stop) for r in result.settled[PLACE]] == [(1, 3)]
