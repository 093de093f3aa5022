"""A ledger that version 0.1.0 made and worked on is upgraded: nothing that it settled runs again, nothing that it left open is
lost (S1, L1)."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, PostgresStage

from airflow_kafka_exactly.adapters.postgres import migrate, open_ledger
from airflow_kafka_exactly.adapters.postgres.schema import newest_version
from airflow_kafka_exactly.errors import SchemaTooOld
from airflow_kafka_exactly.protocol.claims import Life, Opening, Verdict
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = pytest.mark.integration

SQL = Path(__file__).parent.parent / "fixtures" / "ledger_0_1_0.sql"
RECORDS = 30
LIFE = f"'{GROUP}', 'dag.a', 1"
OLD_WORK = f"""
select kafka_exactly.open_life('{GROUP}', '{CLUSTER}', 'dag.a', 'dag.a run 1', 'worker', 'host:1', 20,
  '{{"path": "m:f"}}', 'kafka');
select kafka_exactly.open_partitions({LIFE}, '{CLUSTER}',
  '[{{"topic_id": "{PLACE.topic_id}", "number": 0, "topic": "{PLACE.topic}", "start": 0, "committed": false, "claim_seen": 0}}]');
select kafka_exactly.claim({LIFE}, 0, gen_random_uuid(), false,
  '[{{"topic_id": "{PLACE.topic_id}", "number": 0, "start": 0, "stop": 10, "segments": [[0, 10, false]], "offsets": null}}]');
select kafka_exactly.mark({LIFE}, array[1], array[10], array[10]);
select kafka_exactly.claim({LIFE}, 0, gen_random_uuid(), false,
  '[{{"topic_id": "{PLACE.topic_id}", "number": 0, "start": 10, "stop": 20, "segments": [[10, 20, false]], "offsets": null}}]');
select kafka_exactly.mark({LIFE}, array[2], array[16], array[14]);
"""
"""[0, 10) is settled and folded, [10, 14) is applied, 14 and 15 may have begun, [16, 20) is claimed."""


@pytest.fixture
def old(database: str) -> LedgerSettings:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create extension btree_gist")
        connection.execute("create schema kafka_exactly")
        connection.execute("set search_path = kafka_exactly, public")
        connection.execute(
            "create table schema_version (version integer primary key, name text not null,"
            " applied_at timestamptz not null default clock_timestamp())"
        )
        connection.execute("insert into schema_version values (1, 'ledger')")
        connection.execute("set check_function_bodies = off")
        connection.execute(SQL.read_bytes())
        connection.execute("comment on schema kafka_exactly is 'functions 0123456789abcdef'")
        connection.execute(OLD_WORK.encode())
    return LedgerSettings(connection="my_ledger", conninfo=database)


def test_a_ledger_of_0_1_0_says_what_to_run(old: LedgerSettings) -> None:
    with pytest.raises(SchemaTooOld, match="airflow kafka-exactly migrate"):
        open_ledger(old)
    assert migrate(old) == (1, newest_version())
    open_ledger(old).close()


def test_after_the_upgrade_no_effect_is_repeated_and_no_record_is_lost(old: LedgerSettings) -> None:
    ran = [1] * 14 + [0] * (RECORDS - 14)  # what had happened before; 14 and 15 had begun, and had no effect
    stage = PostgresStage(old.conninfo)
    life = stage.life("dag.a", owner="dag.a run 1", opened=False)
    assert life.incarnation == 2
    assert stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 0, True)]) == {PLACE: 14}
    stage.die(Life(group_id=GROUP, slot="dag.a", incarnation=1))
    for start in (0, 10, 20):  # from the very beginning, as a broken committed offset would have it
        for claim in stage.ask(life, stage.part(start, start + 10)).granted:
            for offset in range(claim.range.start, claim.range.stop):
                ran[offset] += 1
            stage.apply(life, claim)
    assert {d.range.start for d in stage.doubts()} == {14, 15}
    for doubt in stage.doubts():
        assert stage.decide(doubt, Verdict.NOT_APPLIED)
    for redo in stage.claim_released(life, 0, 10):
        ran[redo.claim.range.start] += 1
        stage.apply(life, redo.claim)
    assert ran == [1] * RECORDS
    assert stage.frontier() == RECORDS
    assert stage.doubts() == []
    assert stage.report.reconcile(GROUP, {PLACE: RECORDS}) == []
    stage.ledger.close()


def test_the_upgrade_leaves_what_a_new_ledger_has(old: LedgerSettings) -> None:
    """The same tables, columns, constraints, indexes and functions, whichever way they came to be."""
    migrate(old)
    upgraded = shape(old.conninfo)
    with psycopg.connect(old.conninfo, autocommit=True) as connection:
        connection.execute("drop schema kafka_exactly cascade")
    migrate(old)
    assert shape(old.conninfo) == upgraded


SHAPE = """
select 'function', p.oid::regprocedure::text, p.prosrc || p.proconfig::text from pg_proc p
 where pronamespace = 'kafka_exactly'::regnamespace
union all select 'column', a.attrelid::regclass::text || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || a.attnotnull
  from pg_attribute a join pg_class c on c.oid = a.attrelid
 where c.relnamespace = 'kafka_exactly'::regnamespace and a.attnum > 0 and not a.attisdropped
union all select 'constraint', conrelid::regclass || conname, pg_get_constraintdef(oid) from pg_constraint
 where connamespace = 'kafka_exactly'::regnamespace
union all select 'index', indexname, indexdef from pg_indexes where schemaname = 'kafka_exactly'
"""


def shape(conninfo: str) -> list[object]:
    with psycopg.connect(conninfo) as connection:
        return sorted(connection.execute(SHAPE).fetchall())
