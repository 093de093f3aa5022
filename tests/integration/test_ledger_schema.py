"""Migrations and everything that can be wrong with the connection to the ledger (case 21)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from ledger_stage import PostgresStage
from localstack import PostgreSQL

from airflow_kafka_exactly.adapters.postgres import migrate, open_ledger
from airflow_kafka_exactly.adapters.postgres.schema import FUNCTIONS, newest_version
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    Unavailable,
)
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(database: str) -> LedgerSettings:
    return LedgerSettings(connection="my_ledger", conninfo=database, connect_timeout_s=3)


def sql(settings: LedgerSettings, *statements: str) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_migrate_is_idempotent(settings: LedgerSettings) -> None:
    assert migrate(settings) == (0, newest_version())
    assert migrate(settings) == (newest_version(), newest_version())
    open_ledger(settings).close()


def test_several_may_migrate_at_once(settings: LedgerSettings) -> None:
    with ThreadPoolExecutor(4) as threads:
        done = [f.result(60) for f in [threads.submit(migrate, settings) for _ in range(4)]]
    assert sorted(before for before, _ in done) == [0] + [newest_version()] * 3


def test_a_schema_of_another_name(database: str) -> None:
    other = LedgerSettings(connection="my_ledger", conninfo=database, schema="elsewhere")
    assert migrate(other) == (0, newest_version())
    ledger = open_ledger(other)
    assert ledger.report.status()["epoch"] == 0
    assert ledger.leader.raise_epoch("me") == 1
    ledger.close()
    with psycopg.connect(database) as connection:
        assert connection.execute("select to_regnamespace('kafka_exactly')").fetchone() == (None,)


def test_a_missing_schema_says_what_to_run(settings: LedgerSettings) -> None:
    with pytest.raises(SchemaMissing, match=r"my_ledger.*airflow kafka-exactly migrate"):
        open_ledger(settings)


def says(settings: LedgerSettings, functions: int, serve: int) -> None:
    sql(settings, f"comment on schema kafka_exactly is 'functions {functions} serve {serve}'")


def test_an_old_and_a_newer_schema_are_refused(settings: LedgerSettings) -> None:
    migrate(settings)
    sql(settings, f"insert into kafka_exactly.schema_version values ({newest_version() + 1}, 'of tomorrow')")
    says(settings, FUNCTIONS + 1, FUNCTIONS + 1)
    for attempt in (open_ledger, migrate):
        with pytest.raises(SchemaTooNew, match="Upgrade"):
            attempt(settings)
    sql(settings, "delete from kafka_exactly.schema_version")
    says(settings, FUNCTIONS, FUNCTIONS)
    with pytest.raises(SchemaTooOld, match="airflow kafka-exactly migrate"):
        open_ledger(settings)


def test_newer_functions_that_serve_this_version_are_used_and_left_alone(settings: LedgerSettings) -> None:
    """A mixed installation: somebody has migrated for a version that still serves this one."""
    migrate(settings)
    sql(settings, f"insert into kafka_exactly.schema_version values ({newest_version() + 1}, 'of tomorrow')")
    says(settings, FUNCTIONS + 1, FUNCTIONS)
    open_ledger(settings).close()
    with pytest.raises(SchemaTooNew, match="functions of a newer"):
        migrate(settings)


def test_an_older_migrate_refuses_newer_functions_also_without_a_migration(settings: LedgerSettings) -> None:
    migrate(settings)
    says(settings, FUNCTIONS + 1, FUNCTIONS)
    with pytest.raises(SchemaTooNew, match="functions of a newer"):
        migrate(settings)


@pytest.mark.parametrize("comment", ["functions 0123456789012345", "of somebody", ""])
def test_functions_of_an_older_version_are_refused_until_migrated(
    settings: LedgerSettings, comment: str
) -> None:
    migrate(settings)
    sql(settings, f"comment on schema kafka_exactly is '{comment}'")
    with pytest.raises(SchemaTooOld, match="airflow kafka-exactly migrate"):
        open_ledger(settings)
    assert migrate(settings) == (newest_version(), newest_version())
    open_ledger(settings).close()


def test_a_changed_comment_in_a_function_stops_nobody(settings: LedgerSettings) -> None:
    migrate(settings)
    sql(
        settings,
        "create or replace function kafka_exactly.life_name(p_life bigint) returns text language sql stable"
        " set search_path = kafka_exactly, pg_catalog, pg_temp as $$ select slot || '#' || incarnation"
        " from member_life where life_id = p_life -- another comment\n $$",
    )
    open_ledger(settings).close()


def test_migrate_drops_overloads_that_no_file_makes_and_keeps_the_others(settings: LedgerSettings) -> None:
    migrate(settings)
    oids = "select p.proname, p.oid from pg_proc p where p.pronamespace = 'kafka_exactly'::regnamespace"
    with psycopg.connect(settings.conninfo) as connection:
        before = connection.execute(oids).fetchall()
    sql(
        settings,
        "create function kafka_exactly.raise_epoch(p_leader text, p_old integer default 1) returns bigint"
        " language sql as 'select 1::bigint'",
        "create function kafka_exactly.offsets_between(p_old integer) returns void language sql as ''",
    )
    migrate(settings)
    with psycopg.connect(settings.conninfo) as connection:
        after = connection.execute(oids).fetchall()
    assert sorted(after) == sorted(before), "running processes keep the functions that they have planned"
    ledger = open_ledger(settings)
    assert ledger.leader.raise_epoch("me") == 1
    ledger.close()


def test_migrate_leaves_what_somebody_else_put_into_the_schema(settings: LedgerSettings) -> None:
    """A helper of a database administrator's, with a view that needs it."""
    migrate(settings)
    sql(
        settings,
        "create function kafka_exactly.vat(integer) returns integer language sql as 'select $1 * 2'",
        "create view kafka_exactly.prices as select kafka_exactly.vat(21)",
        "create procedure kafka_exactly.tidy() language sql as ''",
    )
    assert migrate(settings) == (newest_version(), newest_version())
    with psycopg.connect(settings.conninfo) as connection:
        assert connection.execute("select * from kafka_exactly.prices").fetchone() == (42,)
        connection.execute("call kafka_exactly.tidy()")


@pytest.mark.parametrize(
    "theirs",
    [
        "create table public.customers (id integer)",
        "create function public.claim(text) returns integer language sql as 'select 1'",
        "create view public.claim as select 1",
    ],
)
def test_a_schema_that_an_application_uses_is_refused(database: str, theirs: str) -> None:
    settings = LedgerSettings(connection="my_ledger", conninfo=database, schema="public")
    sql(settings, theirs)
    with pytest.raises(ConfigurationError, match=r"my_ledger.*'public'.*ledger_schema"):
        migrate(settings)
    with psycopg.connect(database) as connection:
        assert connection.execute("select to_regclass('public.schema_version')").fetchone() == (None,)


def test_an_empty_schema_and_one_with_extensions_only_are_fine(database: str) -> None:
    settings = LedgerSettings(connection="my_ledger", conninfo=database, schema="public")
    sql(settings, "create extension btree_gist schema public", "create schema prepared")
    for schema in ("public", "prepared"):
        there = LedgerSettings(connection="my_ledger", conninfo=database, schema=schema)
        assert migrate(there) == (0, newest_version())
        assert migrate(there) == (newest_version(), newest_version())
        open_ledger(there).close()


def test_a_schema_that_disappears_later_is_named_and_waited_for(settings: LedgerSettings) -> None:
    migrate(settings)
    ledger = open_ledger(settings)
    sql(settings, "drop schema kafka_exactly cascade")
    with pytest.raises(Unavailable, match=r"my_ledger.* does not exist.*airflow kafka-exactly migrate"):
        ledger.member.current_incarnation("g", "s")
    with pytest.raises(Unavailable, match="no tables yet"):
        open_ledger(settings)
    migrate(settings)
    assert ledger.member.current_incarnation("g", "s") == 0
    ledger.close()


def test_a_right_that_is_taken_away_later_is_waited_for(settings: LedgerSettings) -> None:
    """Somebody works at the rights of a ledger that is in use. The effect's transaction says the same as everything else."""
    migrate(settings)
    name = f"worker_{uuid.uuid4().hex[:12]}"
    rights = "all privileges on all tables in schema kafka_exactly"
    sql(settings, f"create role {name} login password 'w'", f"grant usage on schema kafka_exactly to {name}")
    theirs = replace(
        settings, conninfo=psycopg.conninfo.make_conninfo(settings.conninfo, user=name, password="w")
    )
    with pytest.raises(ConfigurationError, match="permission denied"):
        open_ledger(theirs)
    sql(settings, f"grant {rights} to {name}")
    ledger = open_ledger(theirs)
    sql(settings, f"revoke {rights} from {name}")
    life = Life(group_id="g", slot="s", incarnation=1)
    with pytest.raises(Unavailable, match="permission denied"):
        ledger.member.renew(life, 30.0)
    with pytest.raises(Unavailable, match="permission denied"), ledger.member.effect_transaction(life, 1, 1):
        pytest.fail("the effect began")
    ledger.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "wrong", "user": "nobody_like_that"},
        {"host": "no-such-host.invalid"},
        {"dbname": "no_such_database"},
    ],
)
def test_case_21_a_wrong_connection_is_named(database: str, wrong: dict[str, str]) -> None:
    conninfo = psycopg.conninfo.make_conninfo(database, **wrong)
    if "host" in wrong:
        conninfo = psycopg.conninfo.make_conninfo(conninfo, hostaddr=None)
    settings = LedgerSettings(connection="my_ledger", conninfo=conninfo, connect_timeout_s=3)
    for attempt in (open_ledger, migrate):
        with pytest.raises(ConfigurationError, match=r"PostgreSQL.*my_ledger"):
            attempt(settings)


def test_case_21_nobody_listens(database: str) -> None:
    conninfo = psycopg.conninfo.make_conninfo(database, port=1)
    settings = LedgerSettings(connection="my_ledger", conninfo=conninfo, connect_timeout_s=3)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"PostgreSQL.*my_ledger"):
        open_ledger(settings)
    assert time.monotonic() - begun < 30


def test_a_login_without_rights_is_told_what_it_needs(settings: LedgerSettings) -> None:
    role = psycopg.conninfo.conninfo_to_dict(settings.conninfo)["dbname"] + "_reader"
    sql(settings, f"create role {role} login password 'reader'")
    conninfo = psycopg.conninfo.make_conninfo(settings.conninfo, user=role, password="reader")
    try:
        with pytest.raises(ConfigurationError, match=r"my_ledger.*btree_gist"):
            migrate(LedgerSettings(connection="my_ledger", conninfo=conninfo))
    finally:
        sql(settings, f"drop role {role}")


def test_the_audit_trail_is_append_only(database: str) -> None:
    stage = PostgresStage(database)
    life = stage.life()
    stage.doubt(life, 0, 1)
    stage.die(life)
    changes = {
        (entity, change) for entity, change in stage.sql("select entity, change from kafka_exactly.audit")
    }
    assert {("life", "opened"), ("life", "fenced"), ("doubt", "vote doubts")} <= changes
    for attempt in (
        "delete from kafka_exactly.audit",
        "update kafka_exactly.audit set by = 'me'",
        "truncate kafka_exactly.audit",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            stage.sql(attempt)
    stage.ledger.close()


# -- outages


@pytest.fixture
def own(own_postgres: PostgreSQL) -> Iterator[tuple[PostgreSQL, PostgresStage]]:
    stage = PostgresStage(own_postgres.address)
    yield own_postgres, stage
    stage.ledger.close()


def test_an_outage_is_unavailable_and_over_when_it_is_over(own: tuple[PostgreSQL, PostgresStage]) -> None:
    service, stage = own
    life = stage.life()
    claim = stage.claim(life, 0, 5)
    service.stop()
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"PostgreSQL \(kafka_exactly_ledger\)"):
            stage.apply(life, claim)
    service.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert stage.apply(life, claim) == 5
            break
        except Unavailable:
            time.sleep(0.1)
    else:
        pytest.fail("it never came back")


def test_a_lock_that_is_not_given_is_unavailable(database: str) -> None:
    stage = PostgresStage(database)
    life = stage.life()
    stage.ledger.close()
    impatient = LedgerSettings(connection="my_ledger", conninfo=database, lock_timeout_s=0.2)
    ledger = open_ledger(impatient)
    with psycopg.connect(database) as holder:
        holder.execute("select from kafka_exactly.member_life for update")
        with pytest.raises(Unavailable, match="my_ledger"):
            ledger.member.renew(life, 20)
        holder.rollback()
    ledger.member.renew(life, 20)
    ledger.close()
