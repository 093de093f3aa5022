"""Taking office while members wait and work: the epoch is the last thing that anybody waits for (S4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from ledger_stage import CLUSTER, PLACE, TOPIC, PostgresStage
from races import until_blocked

from airflow_kafka_exactly.adapters.postgres import open_ledger
from airflow_kafka_exactly.errors import StaleEpoch, Unavailable
from airflow_kafka_exactly.ports import LeaderLedger
from airflow_kafka_exactly.protocol.claims import ClaimPart, Opening, Segment, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch

pytestmark = pytest.mark.integration

HOLDERS, HOLD_S = 48, 0.02


@pytest.fixture
def stage(database: str) -> Iterator[PostgresStage]:
    stage = PostgresStage(database)
    yield stage
    stage.ledger.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def newcomer(stage: PostgresStage) -> Iterator[LeaderLedger]:
    """Another process, with connections of its own."""
    ledgers = open_ledger(stage.settings)
    yield ledgers.leader
    ledgers.close()


def raised_in_s(leader: LeaderLedger) -> float:
    began = time.monotonic()
    leader.raise_epoch("another")
    return time.monotonic() - began


def test_one_blocked_partition_keeps_no_leader_out(
    stage: PostgresStage, newcomer: LeaderLedger, threads: ThreadPoolExecutor
) -> None:
    """Three members ask for records of a partition that somebody holds; the old leader wants to fence and to sweep there."""
    lives = [stage.life(slot) for slot in "abc"]
    dead = stage.life("dead")
    stage.mark(dead, stage.claim(dead, 0, 2), 1, 0)
    stage.expire(dead)
    with psycopg.connect(stage.settings.conninfo) as holder:
        holder.execute("select from kafka_exactly.partition for no key update")
        asking = [threads.submit(stage.ask, life, stage.part(2, 3), epoch=0) for life in lives]
        asking.append(threads.submit(stage.leader.fence, 0, dead))
        for asked in asking:
            until_blocked(stage, asked)
        assert raised_in_s(newcomer) < 1
        holder.commit()
    for asked in asking:
        with pytest.raises((StaleEpoch, Unavailable)):
            asked.result(20)


def test_no_leader_waits_for_a_claim_that_folds(
    stage: PostgresStage, newcomer: LeaderLedger, threads: ThreadPoolExecutor
) -> None:
    """What was settled while the frontier stood still is folded by the next claim: that may be much, and here it stands still
    itself, at a doubt that somebody looks at."""
    a, b = stage.life("a"), stage.life("b")
    claim = stage.claim(a, 0, 2)
    stage.ask(b, stage.part(0, 1))
    with stage.member.effect_transaction(a, claim.claim_id, 1):
        pass  # it does not end its claim, so nothing is folded yet
    with psycopg.connect(stage.settings.conninfo) as holder:
        holder.execute("select from kafka_exactly.doubt for update")
        asking = threads.submit(stage.ask, b, stage.part(2, 3), epoch=0)
        until_blocked(stage, asking)
        assert raised_in_s(newcomer) < 1
        holder.commit()
    with pytest.raises(StaleEpoch):
        asking.result(20)


def test_members_that_hold_the_epoch_in_turn_are_not_let_past_a_leader(
    stage: PostgresStage, newcomer: LeaderLedger
) -> None:
    """48 of them hold it for 20 ms each, over and over: with a shared lock of its row none of 45 seconds was free."""
    stop, holding = threading.Event(), threading.Barrier(HOLDERS + 1)

    def hold() -> None:
        with psycopg.connect(stage.settings.conninfo) as connection:
            first = True
            while not stop.is_set():
                try:
                    connection.execute("select kafka_exactly.require_epoch(0)")
                except psycopg.Error:
                    connection.rollback()
                    return  # it was raised
                if first:
                    holding.wait(60)
                    first = False
                time.sleep(HOLD_S)
                connection.commit()

    with ThreadPoolExecutor(HOLDERS) as members:
        work = [members.submit(hold) for _ in range(HOLDERS)]
        holding.wait(60)
        took_s = raised_in_s(newcomer)
        stop.set()
        for member in work:
            member.result(20)
    assert took_s < 1


def test_no_epoch_at_all_lets_nobody_through(stage: PostgresStage) -> None:
    life = stage.life()
    stage.sql("delete from kafka_exactly.leader_epoch")
    with pytest.raises(StaleEpoch):
        stage.ask(life, stage.part(0, 1))


def test_members_that_ask_for_released_doubts_at_once_share_them_out(
    stage: PostgresStage, threads: ThreadPoolExecutor
) -> None:
    """One holds a partition of two; who asks then is not made to wait for it."""
    a, b = stage.life("a"), stage.life("b")
    other = Partition("topic-id-1", 1, TOPIC)
    stage.member.open_partitions(a, CLUSTER, [Opening(other, 0, False)])
    span = OffsetRange(0, 1)
    stage.ask(a, ClaimPart(PartitionBatch(other, span, stage.records(0, 1)), (Segment(span, True),)))
    stage.doubt(a, 0, 1)
    for facts in stage.evidence.announce(10, 0):
        assert stage.decide(facts, Verdict.NOT_APPLIED)
    with psycopg.connect(stage.settings.conninfo) as holder:
        holder.execute("select from kafka_exactly.partition where number = 0 for no key update")
        (redo,) = threads.submit(stage.claim_released, a, 0, 10).result(20)
        assert redo.claim.partition == other
        later = threads.submit(stage.claim_released, b, 0, 10)
        until_blocked(stage, later)
        holder.commit()
    (redo,) = later.result(20)
    assert redo.claim.partition == PLACE
