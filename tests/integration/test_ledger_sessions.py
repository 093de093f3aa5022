"""Whatever a role, a database, a pooler or a user's function sets for a session changes nothing that the ledger does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from ledger_stage import CLUSTER, PLACE, PostgresStage, record

from airflow_kafka_exactly.adapters.postgres import migrate, open_ledger
from airflow_kafka_exactly.adapters.postgres.schema import newest_version
from airflow_kafka_exactly.errors import ConfigurationError, Unavailable
from airflow_kafka_exactly.protocol.claims import Life, Mark, Opening, Verdict
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = pytest.mark.integration

HOSTILE = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "search_path": "pg_temp, elsewhere",
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "timezone": "'Asia/Kathmandu'",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "synchronous_commit": "off",
    "lock_timeout": "'1s'",
    "statement_timeout": "'1s'",
    "idle_in_transaction_session_timeout": "'1s'",
    "idle_session_timeout": "'1s'",
    "quote_all_identifiers": "on",
    "check_function_bodies": "off",
}


def alter(database: str, values: dict[str, str]) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database, autocommit=True) as connection:
        for setting, value in values.items():
            connection.execute(f"alter database {name} set {setting} = {value}".encode())


@pytest.fixture
def hostile(database: str) -> Iterator[PostgresStage]:
    """Migrated and used with every default turned against it."""
    alter(database, HOSTILE)
    stage = PostgresStage(database)
    yield stage
    stage.ledger.close()


def test_no_default_of_a_database_changes_a_story(hostile: PostgresStage) -> None:
    stage = hostile
    a, b = stage.life("ä🐘"), stage.life("b")
    claim = stage.claim(a, 0, 10)
    stage.mark(a, claim, 4, 3)
    assert stage.doubt(b, 10, 12).new_doubts == 2
    (first, _second) = stage.doubts()
    assert stage.decide(first, Verdict.NOT_APPLIED)
    (redo,) = stage.claim_released(b, 0, 10)
    assert redo.records == (record(10),)
    assert stage.ask(b, stage.part(3, 5)).new_doubts == 2
    with stage.member.effect_transaction(a, claim.claim_id, 5) as cursor:
        assert cursor.execute("select current_setting('transaction_isolation')").fetchone() == (
            "read committed",
        )
    status = stage.report.status()
    assert sorted(member["slot"] for member in status["members"]) == ["b", "ä🐘"]
    assert status["raised_at"].utcoffset() is not None
    assert 0 < status["members"][0]["lease_left_s"] <= 20


def test_a_storm_of_claims_on_one_partition_grants_each_record_once(hostile: PostgresStage) -> None:
    """What breaks first in a transaction of one snapshot: it does not see what it waited for."""
    stage = hostile
    lives = [stage.life(f"m{i}") for i in range(4)]

    def work(life: Life) -> None:
        for _ in range(25):
            start = stage.frontier()
            for claim in stage.ask(life, stage.part(start, start + 5)).granted:
                stage.apply(life, claim)

    with ThreadPoolExecutor(len(lives)) as threads:
        for done in [threads.submit(work, life) for life in lives]:
            done.result(60)
    assert stage.frontier() >= 25


def test_the_effects_own_statements_keep_what_their_role_says(database: str) -> None:
    alter(database, {"timezone": "'Asia/Kathmandu'", "search_path": "shop"})
    stage = PostgresStage(database)
    stage.sql("create schema shop")
    stage.sql("create table shop.paid (at text)")
    life = stage.life()
    claim = stage.claim(life, 0, 3)
    for applied in (1, 2):  # the second time in a session that was reset
        with stage.member.effect_transaction(life, claim.claim_id, applied) as cursor:
            cursor.execute("insert into paid values (current_setting('timezone'))")
    assert stage.sql("select at from shop.paid") == [("Asia/Kathmandu",)] * 2
    stage.ledger.close()


LEFT_BEHIND = [
    "create temp table claim (policy text, amount numeric)",
    "create temp table audit (like kafka_exactly.audit including all)",
    "create temp table partition (frontier text)",
    "select set_config('default_transaction_read_only', 'on', false)",
    "select set_config('default_transaction_isolation', 'serializable', false)",
    "select set_config('role', 'pg_monitor', false)",
    "select set_config('search_path', 'pg_temp', false)",
    "select set_config('lock_timeout', '1', false), set_config('statement_timeout', '1', false)",
    "select pg_advisory_lock(7064212058133)",
    "prepare mine as select 1",
    "declare mine cursor with hold for select 1",
]


@pytest.mark.parametrize("statement", LEFT_BEHIND)
def test_what_an_effect_leaves_in_its_session_is_gone(database: str, statement: str) -> None:
    stage = PostgresStage(database)
    life = stage.life()
    claim = stage.claim(life, 0, 10)
    small = open_ledger(LedgerSettings(connection="my_ledger", conninfo=database, pool_max=2))
    sessions = set()
    for applied in range(1, 6):  # each leaves it again, which also fails if the one before is still there
        with small.member.effect_transaction(life, claim.claim_id, applied) as cursor:
            sessions.add(cursor.execute("select pg_backend_pid()").fetchone())
            cursor.execute(statement)
        assert small.member.mark(life, [Mark(claim.claim_id, 9, applied)]) == {PLACE: applied}
    assert len(sessions) <= 2, "a session was used again"
    small.close()
    before = stage.sql("select count(*) from kafka_exactly.audit")
    stage.life("b")
    assert stage.sql("select count(*) from kafka_exactly.audit") > before
    assert migrate(stage.settings) == (newest_version(), newest_version())
    stage.ledger.close()


def test_every_function_looks_for_its_names_in_the_ledger_first_and_in_temporary_tables_last(
    database: str,
) -> None:
    stage = PostgresStage(database)
    paths = dict(
        stage.sql(
            "select oid::regprocedure::text, proconfig from pg_proc where pronamespace = 'kafka_exactly'::regnamespace"
        )
    )
    assert len(paths) > 30
    wanted = ["search_path=kafka_exactly, pg_catalog, pg_temp"]
    assert {name: found for name, found in paths.items() if found != wanted} == {}
    stage.ledger.close()


@pytest.mark.parametrize("schema", ["user", "select", "table", "order", "a" * 63, "größe"])
def test_a_schema_may_be_called_by_a_word_of_sql(database: str, schema: str) -> None:
    settings = LedgerSettings(connection="my_ledger", conninfo=database, schema=schema)
    assert migrate(settings) == (0, newest_version())
    assert migrate(settings) == (newest_version(), newest_version())
    ledger = open_ledger(settings)
    assert ledger.leader.raise_epoch("me") == 1
    assert ledger.report.status()["epoch"] == 1
    ledger.close()


@pytest.mark.parametrize(
    "schema", ["Ledger", "pg_ledger", "a" * 64, "with space", 'quo"te', "semi;colon", ""]
)
def test_a_schema_that_cannot_be_is_refused_by_name(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="ledger_schema"):
        LedgerSettings(connection="my_ledger", conninfo="", schema=schema)


def test_a_session_that_forgets_its_settings_is_refused_with_the_settings_name(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pooler does that gives each transaction another session: the settings are gone in the next one."""
    from airflow_kafka_exactly.adapters.postgres import session

    pairs = session._pairs

    def forgetful(connection: Any, statement: str, parameter: Any) -> dict[str, str]:
        found = pairs(connection, statement, parameter)
        connection.execute("reset all")
        return found

    monkeypatch.setattr(session, "_pairs", forgetful)
    settings = LedgerSettings(connection="my_ledger", conninfo=database)
    for attempt in (open_ledger, migrate):
        with pytest.raises(ConfigurationError, match=r"my_ledger.* its setting \w+ = .*pooler"):
            attempt(settings)


def test_a_ledger_that_became_read_only_is_an_outage(database: str) -> None:
    """The other end of a failover: a server that is a standby now says so to every write."""
    stage = PostgresStage(database)
    life = stage.life()
    with stage.member._db.connection() as connection:
        connection.execute("set default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="read-only"):
        stage.member.open_partitions(life, CLUSTER, [Opening(PLACE, 0, False)])
    stage.ledger.close()


def test_the_size_of_the_pool_is_a_setting(database: str) -> None:
    migrate(LedgerSettings(connection="my_ledger", conninfo=database))
    ledger = open_ledger(LedgerSettings(connection="my_ledger", conninfo=database, pool_max=2))
    pool = ledger.member._db._pool
    assert pool.max_size == 2
    ledger.close()
    with pytest.raises(ConfigurationError, match="ledger_pool_size=1"):
        LedgerSettings(connection="my_ledger", conninfo=database, pool_max=1)
