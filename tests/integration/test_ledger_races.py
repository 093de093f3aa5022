"""Races that the guards of S4 must win on a real PostgreSQL at READ COMMITTED (H3).

Each test holds one side's transaction open at the worst moment, waits until the other side really waits for a lock, and looks
at who won. `WHERE EXISTS (… another row …)` in place of the row locks loses each of the first three.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hammer import LOG, Hammer
from ledger_stage import GROUP, PLACE, PostgresStage
from races import held, mark_call, together, until_blocked

from airflow_kafka_exactly.errors import Fenced, StaleEpoch, Unavailable
from airflow_kafka_exactly.protocol.claims import DoubtState, Life, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(database: str) -> Iterator[PostgresStage]:
    stage = PostgresStage(database)
    yield stage
    stage.ledger.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


# -- fence and applied mark


def test_race_fence_waits_for_an_applied_mark_and_sees_it(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    stage.mark(life, claim, 1, 0)
    stage.expire(life)
    with held(stage, *mark_call(life, claim, 1)) as mark:
        fence = threads.submit(stage.leader.fence, 0, life)
        until_blocked(stage, fence)
        mark.commit()
        assert fence.result(20)
    assert stage.doubts() == [], "the mark was accepted, so nothing is in doubt"
    assert stage.frontier() == 1


def test_race_a_mark_that_waits_for_a_fence_is_refused(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    stage.mark(life, claim, 1, 0)
    stage.expire(life)
    with held(stage, "fence(0, %s, %s, %s)", life.group_id, life.slot, life.incarnation) as fence:
        mark = threads.submit(stage.apply, life, claim)
        until_blocked(stage, mark)
        fence.commit()
        with pytest.raises(Fenced):
            mark.result(20)
    assert stage.doubted() == [(0, 1, "window", "open")]
    assert stage.frontier() == 0


def test_race_fence_waits_for_an_effects_transaction(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    """H7: in flight is a third state; evidence must not judge it."""
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    stage.sql("create table effects (n integer)")
    stage.expire(life)
    with stage.member.effect_transaction(life, claim.claim_id, 1) as cursor:
        cursor.execute("insert into effects values (%s)", [1])
        fence = threads.submit(stage.leader.fence, 0, life)
        until_blocked(stage, fence)
    assert fence.result(20)
    assert stage.sql("select * from effects") == [(1,)]
    assert stage.doubts() == []
    assert stage.frontier() == 1


def test_race_an_effect_that_waits_for_a_fence_never_begins(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 1)
    stage.expire(life)

    def effect() -> None:
        with stage.member.effect_transaction(life, claim.claim_id, 1):
            pytest.fail("the effect began after the fence")

    with held(stage, "fence(0, %s, %s, %s)", life.group_id, life.slot, life.incarnation) as fence:
        running = threads.submit(effect)
        until_blocked(stage, running)
        fence.commit()
        with pytest.raises(Fenced):
            running.result(20)


# -- epoch and claim


def claim_call(stage: PostgresStage, life: Life, epoch: int) -> tuple[Any, ...]:
    part = '[{"topic_id": "topic-id-1", "number": 0, "start": 0, "stop": 1, "segments": [[0, 1, false]], "offsets": null}]'
    call = "claim(%s, %s, %s, %s, %s, false, %s::jsonb)"
    return (call, life.group_id, life.slot, life.incarnation, epoch, stage.next_step(), part)


def test_race_an_epoch_raised_during_a_claim_loads_that_claim(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    life = stage.life()

    def take_office() -> list[OffsetRange]:
        stage.new_epoch()
        return [span for _, span in stage.leader.load(GROUP).ranges]

    with held(stage, *claim_call(stage, life, 0)) as claim:
        office = threads.submit(take_office)
        until_blocked(stage, office)
        claim.commit()
        assert office.result(20) == [OffsetRange(0, 1)]


def test_race_a_claim_that_waits_for_a_new_epoch_is_stale(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    life = stage.life()
    with held(stage, "raise_epoch('new')") as raised:
        claim = threads.submit(stage.ask, life, stage.part(0, 1), epoch=0)
        until_blocked(stage, claim)
        raised.commit()
        with pytest.raises(StaleEpoch):
            claim.result(20)
    assert stage.leader.load(GROUP).ranges == []


# -- fold and claim


def test_race_a_record_folded_during_a_claim_is_settled(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 1)
    with held(stage, *mark_call(a, claim, 1)) as fold:
        asked = threads.submit(stage.ask, b, stage.part(0, 1))
        until_blocked(stage, asked)
        fold.commit()
        result = asked.result(20)
    assert result.granted == ()
    assert result.settled == {PLACE: (OffsetRange(0, 1),)}


def test_race_two_claims_of_one_range(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    a, b = stage.life("a"), stage.life("b")
    with held(stage, *claim_call(stage, a, 0)) as first:
        second = threads.submit(stage.ask, b, stage.part(0, 1))
        until_blocked(stage, second)
        first.commit()
        assert second.result(20).granted == ()
    assert stage.doubted() == [(0, 1, "collision", "open")]


# -- the others


def test_race_two_processes_open_one_slot(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    lives = together(threads, [lambda: stage.life("s", opened=False)] * 4)
    assert sorted(life.incarnation for life in lives) == [1, 2, 3, 4]
    current = stage.sql("select incarnation from kafka_exactly.member_life where state = 'current'")
    assert current == [(4,)]


def test_race_two_members_claim_one_released_doubt(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    a, b = stage.life("a"), stage.life("b")
    stage.doubt(a, 0, 6)
    for facts in stage.doubts():
        stage.decide(facts, Verdict.NOT_APPLIED)
    redos = together(threads, [lambda life=life: stage.claim_released(life, 0, 4) for life in (a, b, a, b)])
    taken = [redo.claim.doubt_id for some in redos for redo in some]
    assert len(taken) == len(set(taken)) >= 4


def test_race_two_evidence_runs_decide_once(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    stage.doubt(stage.life(), 0, 1)
    facts = stage.the_doubt()
    assert sorted(together(threads, [lambda: stage.decide(facts, Verdict.NOT_APPLIED)] * 4)) == [
        False,
        False,
        False,
        True,
    ]


def test_race_a_doubt_is_announced_once(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    stage.doubt(stage.life(), 0, 40)
    announced = together(threads, [lambda: stage.evidence.announce(15, 60)] * 4)
    ids = [facts.doubt_id for some in announced for facts in some]
    assert len(ids) == len(set(ids))


def test_race_everybody_at_once(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    """No deadlock comes out, no effect happens twice, and everything is settled in the end (S1, S2, L1)."""
    hammer = Hammer(stage)
    stage.life("first")
    members = [threads.submit(hammer.member, slot, seed) for seed, slot in enumerate("abcd")]
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not any(m.done() for m in members):
        hammer.others()
        if stage.frontier() == LOG and not stage.doubts():
            break
    hammer.stop.set()
    for member in members:
        member.result(30)
    assert stage.doubts() == [], "L1"
    assert stage.frontier() == LOG
    assert set(hammer.counted().values()) == {1}
    assert {d["state"] for d in stage.report.doubts(GROUP, False)} <= {DoubtState.CLOSED}
    assert stage.report.reconcile(GROUP, {PLACE: LOG}) == []


def test_h23_doubts_of_a_lost_answer_are_given_again_although_the_epoch_was_raised_in_between(
    stage: PostgresStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction commits, its answer is lost, a new leader is elected: whoever asks again under the same number gets
    what was granted, also with the old votes. Nobody else ever could."""
    a, b = stage.life("a"), stage.life("b")
    stage.mark(a, stage.claim(a, 0, 1), 1, 0)
    stage.die(a)
    assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED)
    stage.ask(b, stage.part(0, 1))  # the redelivered record brings the payload
    rows, step = stage.member._db.rows, stage.next_step()

    def answer_is_lost(*asked: Any) -> Any:
        rows(*asked)
        raise Unavailable("PostgreSQL", "test", "the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(stage.member._db, "rows", answer_is_lost)
        with pytest.raises(Unavailable):
            stage.claim_released(b, 0, 5, step=step)
    epoch = stage.leader.raise_epoch("another")
    (again,) = stage.claim_released(b, 0, 5, step=step)
    assert again.claim.range.start == 0
    with pytest.raises(StaleEpoch):
        stage.claim_released(b, 0, 5)
    assert stage.claim_released(b, epoch, 5) == []
