"""`effect="ledger"`: the effect and the applied mark in one transaction (S1 a, H7)."""

from __future__ import annotations

import pytest
from ledger_stage import Stage

from airflow_kafka_exactly.errors import AlreadyApplied, Fenced
from airflow_kafka_exactly.protocol.claims import Verdict


def test_the_effect_is_applied_with_its_commit(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 2)
    with stage.member.effect_transaction(life, claim.claim_id, 1) as cursor:
        cursor.execute("select 1")
        assert stage.frontier() == 0
    assert stage.mark(life, claim, 1, 1) == 1
    with stage.member.effect_transaction(life, claim.claim_id, 2):
        pass
    assert stage.frontier() == 2
    assert stage.apply(life, claim) == 2


def test_an_exception_is_proof_that_nothing_happened(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    with pytest.raises(ZeroDivisionError), stage.member.effect_transaction(life, claim.claim_id, 1):
        raise ZeroDivisionError
    assert stage.frontier() == 0
    stage.die(life)
    assert stage.doubts() == [], "it was never started"


def test_an_effect_whose_answer_was_lost_is_not_repeated(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 2)
    for applied in (1, 2):
        with stage.member.effect_transaction(life, claim.claim_id, applied):
            pass
        with pytest.raises(AlreadyApplied), stage.member.effect_transaction(life, claim.claim_id, applied):
            pytest.fail("entered")


def test_a_fenced_life_enters_no_effect(stage: Stage) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    stage.die(life)
    with pytest.raises(Fenced), stage.member.effect_transaction(life, claim.claim_id, 1):
        pytest.fail("entered")


def test_a_redo_closes_its_doubt_with_the_effect(stage: Stage) -> None:
    life = stage.life()
    stage.doubt(life, 0, 1)
    stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(life, 0, 1)
    with pytest.raises(KeyError), stage.member.effect_transaction(life, redo.claim.claim_id, 1):
        raise KeyError
    assert stage.outcomes() == {(0, 1): None}
    with stage.member.effect_transaction(life, redo.claim.claim_id, 1):
        pass
    assert stage.outcomes() == {(0, 1): "redone"}
