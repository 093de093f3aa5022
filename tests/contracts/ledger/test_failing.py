"""Records that fail, whoever tries them: what a give-back tells of them, and who is told."""

from __future__ import annotations

import pytest
from ledger_stage import PostgresStage, Stage

from airflow_kafka_exactly.protocol.claims import Failing, Verdict


def test_l1_who_claims_a_failing_record_next_is_told_since_when_it_fails(stage: Stage) -> None:
    """Or runs that are shorter than `outage_grace` would never give it up."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 10)
    assert stage.member.failing(claim) == []
    stage.member.give_back(a, claim.claim_id, 0, [Failing(3, 4, 2, 60.0), Failing(4, 5, 1, 5.0)])
    stage.member.give_back(
        a, claim.claim_id, 0, [Failing(3, 4, 9, 900.0)]
    )  # a copy that comes late: the claim is over
    stage.pass_time(30)
    claim = stage.claim(b, 0, 4)
    (known,) = stage.member.failing(claim)
    assert (known.offset, known.attempts) == (3, 2)
    assert known.for_s == pytest.approx(90, abs=5)
    # Less than is known changes nothing.
    stage.member.give_back(b, claim.claim_id, 0, [Failing(3, 4, 1, 1.0)])
    (known, other) = stage.member.failing(stage.claim(a, 0, 10))
    assert (known.attempts, other.attempts) == (2, 1)
    assert known.for_s == pytest.approx(90, abs=5)


def test_what_is_told_of_a_unit_is_of_that_unit(stage: Stage) -> None:
    """Another one that begins with the same record may hold records that were tried less often."""
    a = stage.life("a")
    for told in (Failing(0, 3, 4, 60.0), Failing(0, 10, 2, 5.0)):
        stage.member.give_back(a, stage.claim(a, 0, 10).claim_id, 0, [told])
    (known,) = stage.member.failing(stage.claim(a, 0, 10))
    assert (known.stop, known.attempts) == (10, 2)
    assert known.for_s == pytest.approx(5, abs=5)


def test_what_is_settled_fails_no_more_and_what_is_redone_does(stage: Stage) -> None:
    a = stage.life("a")
    stage.doubt(a, 0, 1)
    claim = stage.claim(a, 1, 10)
    stage.member.give_back(a, claim.claim_id, 1, [Failing(o, o + 1, 1, 1.0) for o in (1, 2, 7)])
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(a, stage.epoch, 10)
    stage.member.give_back(a, redo.claim.claim_id, 0, [Failing(0, 1, 1, 1.0)])
    stage.apply(a, stage.claim(a, 1, 6))
    claim = stage.claim(a, 6, 10)
    stage.member.give_back(a, claim.claim_id, 6, [Failing(8, 9, 1, 1.0)])
    (redo,) = stage.claim_released(a, stage.epoch, 10)
    assert [f.offset for f in stage.member.failing(redo.claim)] == [0]
    assert [f.offset for f in stage.member.failing(stage.claim(a, 6, 10))] == [7, 8]
    assert kept_failing(stage) == [0, 7, 8]


def kept_failing(stage: Stage) -> list[int]:
    if isinstance(stage, PostgresStage):
        return [o for (o,) in stage.sql("select record_offset from kafka_exactly.failing order by 1")]
    return sorted(o for place in stage.ledger.state.places.values() for o in place.failing)
