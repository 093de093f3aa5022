"""Storing payload holds a partition only while the ledger itself works: a member that freezes there blocks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from ledger_stage import PLACE, PostgresStage, record
from proxy import Proxy
from world import eventually

from airflow_kafka_exactly.adapters.postgres import open_ledger
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import Claim, ClaimPart, Life, Segment
from airflow_kafka_exactly.protocol.record import OffsetRange, PartitionBatch, RawRecord

pytestmark = pytest.mark.integration

RECORDS = [record(o)._replace(value=b"v" * 20_000) for o in range(10)]

Store = Callable[[Any, Life, Claim], object]


def store_doubts(member: Any, life: Life, claim: Claim) -> object:
    """The payload alone: the doubts are those of a fenced window of `claim`."""
    batch = PartitionBatch(PLACE, OffsetRange(0, 10), tuple(RECORDS))
    part = ClaimPart(batch, (Segment(batch.range, False),))
    return member._store_payload(life, part, [batch.range])


def raise_doubt(member: Any, life: Life, claim: Claim) -> object:
    return member.raise_doubt(life, claim, RECORDS, 10, "boom")


def bury(member: Any, life: Life, claim: Claim) -> object:
    return member.bury(life, claim, RECORDS, 10, "boom", 3)


STORES = pytest.mark.parametrize("store", [store_doubts, raise_doubt, bury])


@pytest.fixture
def stage(database: str) -> Iterator[PostgresStage]:
    stage = PostgresStage(database)
    yield stage
    stage.ledger.close()


def scene(stage: PostgresStage, store: Store) -> tuple[Life, Claim]:
    life = stage.life()
    claim = stage.claim(life, 0, 10, unit=True)
    stage.mark(life, claim, 10, 0)
    if store is store_doubts:
        stage.die(life)
        life = stage.life()
    return life, claim


@contextmanager
def through(proxy: Proxy, stage: PostgresStage) -> Iterator[Any]:
    """The ledger as a member far away has it. Its bytes stop at the proxy: frozen (SIGSTOP), a member's connections stay open."""
    host, port = proxy.address.split(":")
    conninfo = psycopg.conninfo.make_conninfo(stage.settings.conninfo, host=host, port=port)
    ledger = open_ledger(replace(stage.settings, conninfo=conninfo))
    ledger.report.status()  # connected
    yield ledger.member
    proxy.cut()
    ledger.close()


@STORES
def test_a_member_frozen_anywhere_in_storing_payload_does_not_hold_its_partition(
    stage: PostgresStage, store: Store
) -> None:
    """After so many quarters of what it has to say, and a byte. How much that is, shows the first time."""
    parts = psycopg.conninfo.conninfo_to_dict(stage.settings.conninfo)
    said = 0
    for quarter in (None, 0, 1, 2, 3):
        stage.empty()
        life, claim = scene(stage, store)
        with (
            Proxy(f"{parts['host']}:{parts['port']}") as proxy,
            through(proxy, stage) as member,
            ThreadPoolExecutor(1) as threads,
        ):
            before = proxy.said
            if quarter is None:
                store(member, life, claim)
                said = proxy.said - before
                continue
            proxy.freeze_after(said * quarter // 4 + 1)
            storing = threads.submit(store, member, life, claim)
            assert proxy.frozen.wait(20)
            eventually("the ledger waits for the member", lambda: stage.sql(NOBODY_WORKS) == [(True,)])
            stage.sql("select from kafka_exactly.partition for update nowait")
            proxy.cut()
            with pytest.raises(Unavailable):
                storing.result(20)


NOBODY_WORKS = (
    "select bool_and(wait_event = 'ClientRead') from pg_stat_activity"
    " where datname = current_database() and application_name like 'kafka-exactly%%'"
)


@STORES
def test_payload_is_stored_in_one_round_trip(
    stage: PostgresStage, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    life, claim = scene(stage, store)
    exchanges: list[Any] = []
    wait = psycopg.Connection.wait

    def counted(connection: psycopg.Connection[Any], *arguments: Any, **more: Any) -> Any:
        exchanges.append(connection)
        return wait(connection, *arguments, **more)

    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    assert store(stage.member, life, claim) == 10
    assert len(exchanges) == 1


def test_who_stands_still_in_a_transaction_of_the_ledger_loses_it(stage: PostgresStage) -> None:
    """Nothing of the ledger's own does; what it is for comes with the session."""
    (idle,) = stage.ledger.report._db.row("show idle_in_transaction_session_timeout")
    assert idle == "3s"


def test_records_of_a_chunk_keep_their_own_headers(stage: PostgresStage) -> None:
    headers: list[tuple[tuple[str, bytes | None], ...]] = [(), (("a", b"1"), ("b", None)), (), (("", b""),)]
    records = [RawRecord(o, None, b"", h, o) for o, h in enumerate(headers)]
    life = stage.life()
    claim = stage.claim(life, 0, 4, unit=True)
    stage.member.raise_doubt(life, claim, records, 4, "boom")
    (facts,) = stage.doubts()
    assert list(stage.evidence.payload(facts.doubt_id)) == records
