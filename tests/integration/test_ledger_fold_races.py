"""Two statements that must see the same claim, while an effect's transaction settles it without the partition's lock (S1, a).

Each test stops the one side between its two statements by a row's lock that production takes there too (the evidence check
holds and announces doubts without the partition's lock), lets the effect commit, and looks whether the ledger remembers it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from ledger_stage import GROUP, PLACE, PostgresStage
from races import until_blocked

from airflow_kafka_exactly.protocol.claims import Claim, DoubtFacts, Life, Verdict

pytestmark = pytest.mark.integration

ROUNDS = 150

NOTED_THEN_DELETED = """
create or replace function kafka_exactly.note_settled(p_partition bigint, p_fold_to bigint) returns void
language plpgsql set search_path = kafka_exactly as $$
begin
  update doubt d set settled = true, version = version + 1 from claim c
   where d.partition_id = p_partition and d.state = 'open' and d.kind in ('vote', 'collision') and not d.settled
     and c.partition_id = p_partition and c.doubt_id is null and c.range_start <= d.first_record
     and d.last_record < case when c.state = 'settled' then c.range_stop else c.applied end;
  delete from claim where partition_id = p_partition and state = 'settled' and range_stop <= p_fold_to;
end $$"""
"""The fault itself: two statements, two snapshots."""


@pytest.fixture
def stage(database: str) -> Iterator[PostgresStage]:
    stage = PostgresStage(database)
    stage.sql("create table effects (record_offset bigint)")
    yield stage
    stage.ledger.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Effect:
    """An effect's transaction of a whole claim, in a thread, that commits when it is told to."""

    def __init__(self, stage: PostgresStage, threads: ThreadPoolExecutor, life: Life, claim: Claim) -> None:
        self._stage, self._life, self._claim = stage, life, claim
        self._begun, self._go = threading.Event(), threading.Event()
        self._work: Future[None] = threads.submit(self._run)
        assert self._begun.wait(20)

    def _run(self) -> None:
        with self._stage.member.effect_transaction(
            self._life, self._claim.claim_id, self._claim.range.stop
        ) as cursor:
            for offset in range(self._claim.range.start, self._claim.range.stop):
                cursor.execute("insert into effects values (%s)", [offset])
            self._begun.set()
            assert self._go.wait(20)

    def commit(self) -> None:
        """Returns when others can see it; the fold that follows in this thread may have to wait."""
        self._go.set()
        deadline = time.monotonic() + 20
        while not self._stage.sql("select 1 from effects where record_offset = %s", self._claim.range.start):
            assert time.monotonic() < deadline

    def end(self) -> None:
        self._go.set()
        self.done()

    def done(self) -> None:
        self._work.result(20)


@contextmanager
def locked(stage: PostgresStage, facts: DoubtFacts) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(stage.settings.conninfo) as connection:
        connection.execute("select from kafka_exactly.doubt where doubt_id = %s for update", [facts.doubt_id])
        yield connection


def redo_all(stage: PostgresStage, life: Life) -> int:
    """What evidence makes of every doubt, without any check, and what it releases is done again."""
    for facts in stage.doubts():
        stage.weigh(facts)
    redos = stage.claim_released(life, stage.epoch, 10)
    for redo in redos:
        claim = redo.claim
        with stage.member.effect_transaction(life, claim.claim_id, claim.range.stop) as cursor:
            cursor.execute("insert into effects values (%s)", [claim.range.start])
    return len(redos)


def twice(stage: PostgresStage) -> list[int]:
    found = stage.sql("select record_offset from effects group by 1 having count(*) > 1 order by 1")
    return [offset for (offset,) in found]


def fold_while_an_effect_commits(stage: PostgresStage, threads: ThreadPoolExecutor) -> None:
    """The fold after the effect of record 0 notes that in doubt 0, whose row is locked; meanwhile the effect of record 1, about
    which there is a doubt as well, commits; then the fold goes on. At last evidence judges what is left."""
    a, b = stage.life("a"), stage.life("b")
    claims = [stage.claim(a, 0, 1), stage.claim(a, 1, 2)]
    stage.ask(b, stage.part(0, 2))
    assert stage.doubted() == [(0, 1, "collision", "open"), (1, 2, "collision", "open")]
    first, second = (Effect(stage, threads, a, claim) for claim in claims)
    with locked(stage, stage.doubts()[0]) as evidence:
        first.commit()
        fold = threads.submit(first.done)
        until_blocked(stage, fold)
        second.commit()
        evidence.commit()
    first.done()
    second.done()
    redo_all(stage, b)


def test_s1_an_effect_that_commits_during_a_fold_is_remembered(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    fold_while_an_effect_commits(stage, threads)
    assert twice(stage) == []
    assert set(stage.outcomes().values()) == {"discarded"}
    assert stage.report.reconcile(GROUP, {PLACE: 2}) == []


def test_reconcile_finds_a_record_that_a_forgetful_fold_let_run_again(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    stage.sql(NOTED_THEN_DELETED)
    fold_while_an_effect_commits(stage, threads)
    assert twice(stage) == [1], "the planted fault did nothing"
    (found,) = stage.report.reconcile(GROUP, {PLACE: 2})
    assert (found["start"], found["stop"], found["pending"]) == (1, 2, False)
    assert "two outcomes" in found["what"]


def test_s1_a_ruling_that_meets_an_effects_commit_releases_nothing(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    """A person says "redo" while the effect in question is in flight: it commits after the claim was looked at for what is to
    be noted, and before it was looked at for who holds the record."""
    a, b = stage.life("a"), stage.life("b")
    effect = Effect(stage, threads, a, stage.claim(a, 0, 1))
    stage.ask(b, stage.part(0, 1))
    facts = stage.the_doubt()
    with locked(stage, facts) as evidence:
        ruling = threads.submit(stage.decide, facts, Verdict.NOT_APPLIED, by="Ada")
        until_blocked(stage, ruling)
        effect.commit()
        evidence.commit()
    assert ruling.result(20) is False
    effect.done()
    redo_all(stage, b)
    assert twice(stage) == []


def test_s1_effects_end_while_others_poll_the_same_records(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    """Nothing is stopped here: as after a lost partition, one member ends effects while another asks for their records."""
    a, b = stage.life("a"), stage.life("b")
    chance, took_s = random.Random(1), 0.005
    for offset in range(ROUNDS):
        effect = Effect(stage, threads, a, stage.claim(a, offset, offset + 1))
        began = time.monotonic()
        asked = threads.submit(stage.ask, b, stage.part(offset, offset + 1))
        time.sleep(chance.uniform(0.2, 1.0) * took_s)
        effect.end()
        asked.result(20)
        took_s = 0.8 * took_s + 0.2 * (time.monotonic() - began)
        redo_all(stage, b)
    assert twice(stage) == []
    assert stage.frontier() == ROUNDS
