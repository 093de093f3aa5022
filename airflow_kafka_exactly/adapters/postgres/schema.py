"""The ledger's schema: numbered migrations, and the functions, which are replaced as a whole each time.

`migrate` may be run by several processes at once: an advisory lock lets one after the other through.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import errors as pg

from airflow_kafka_exactly.adapters.postgres.pool import Database, connect
from airflow_kafka_exactly.adapters.postgres.session import Connection
from airflow_kafka_exactly.adapters.postgres.statements import in_schema
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    Unavailable,
)
from airflow_kafka_exactly.settings import LedgerSettings

_ADVISORY_LOCK = 7_064_212_058_133


def _files(folder: str) -> list[Traversable]:
    found = resources.files(__package__).joinpath(folder).iterdir()
    return sorted((f for f in found if f.name.endswith(".sql")), key=lambda f: f.name)


@cache
def newest_version() -> int:
    """The schema version that this installation needs."""
    return max(int(f.name.split("_")[0]) for f in _files("migrations"))


@cache
def functions_digest() -> str:
    """Of the functions that this installation calls."""
    return sha256(b"".join(f.read_bytes() for f in _files("functions"))).hexdigest()[:16]


def migrate(settings: LedgerSettings) -> tuple[int, int]:
    """Bring the schema up to date; returns the version before (0: none) and after. Idempotent. `SchemaTooNew` when a newer
    installation made it, `ConfigurationError` when the connection's login lacks a right."""
    with connect(settings) as connection:
        try:
            with connection.transaction():
                return _migrate(connection, settings)
        except pg.InsufficientPrivilege as exc:
            raise ConfigurationError(
                f"PostgreSQL (connection {settings.connection!r}): {exc.diag.message_primary}. Its login needs to create the "
                f"schema {settings.schema!r} (`grant create on database`), and the extension btree_gist: let a superuser "
                "run `create extension btree_gist` once."
            ) from exc
        except psycopg.OperationalError as exc:
            raise Unavailable("PostgreSQL", settings.connection, exc) from exc


def _migrate(connection: Connection, settings: LedgerSettings) -> tuple[int, int]:
    connection.execute(
        "select set_config('lock_timeout', '60s', true), set_config('statement_timeout', '300s', true)"
    )
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
    before = _version(connection, settings.schema) or 0
    if before > newest_version():
        raise _too_new(settings, before)
    if before == 0:
        _create(connection, settings.schema)
    connection.execute(
        in_schema("set local search_path = kafka_exactly, pg_catalog, pg_temp", settings.schema)
    )
    for file in _files("migrations"):
        number, name = file.name.removesuffix(".sql").split("_", 1)
        if int(number) > before:
            connection.execute(in_schema(file.read_text(encoding="utf-8"), settings.schema))
            connection.execute(
                "insert into schema_version (version, name) values (%s, %s)", [int(number), name]
            )
    connection.execute("set local check_function_bodies = off")  # they call each other
    for file in _files("functions"):
        _replace(connection, in_schema(file.read_text(encoding="utf-8"), settings.schema))
    # A patch release may change functions and no table: they go with the code that calls them.
    connection.execute(
        in_schema(f"comment on schema kafka_exactly is 'functions {functions_digest()}'", settings.schema)
    )
    return before, newest_version()


def _create(connection: Connection, schema: str) -> None:
    if connection.execute("select to_regnamespace(%s)", [f'"{schema}"']).fetchone() == (None,):
        connection.execute(in_schema("create schema kafka_exactly", schema))
    # Named, because where it goes else depends on this login's search path. Not into our schema if that can be helped: others
    # may come to use it, and lose it when the schema is dropped.
    public = "select has_schema_privilege(to_regnamespace('public'), 'create')"
    where = "public" if connection.execute(public).fetchone() == (True,) else "kafka_exactly"
    connection.execute(in_schema(f"create extension if not exists btree_gist schema {where}", schema))
    connection.execute(
        in_schema(
            "create table kafka_exactly.schema_version (version integer primary key, name text not null,"
            " applied_at timestamptz not null default clock_timestamp())",
            schema,
        )
    )


def _replace(connection: Connection, functions: bytes) -> None:
    try:
        with connection.transaction():
            connection.execute(functions)
    except pg.InvalidFunctionDefinition:  # another result type than that of the version before
        for drop in connection.execute(
            "select format('drop routine %s', p.oid::regprocedure) from pg_proc p"
            " where p.pronamespace = current_schema()::regnamespace and p.prorettype <> 'trigger'::regtype"
            " and p.proname in (select (regexp_matches(%s, 'function \\w+\\.(\\w+)', 'g'))[1])",
            [functions.decode()],
        ).fetchall():
            connection.execute(drop[0].encode())
        connection.execute(functions)


def _version(connection: Connection, schema: str) -> int | None:
    """None: there is no such table."""
    if connection.execute("select to_regclass(%s)", [f'"{schema}".schema_version']).fetchone() == (None,):
        return None
    row = connection.execute(
        in_schema("select coalesce(max(version), 0) from kafka_exactly.schema_version", schema)
    ).fetchone()
    return int(row[0]) if row else 0


def check_schema(database: Database) -> None:
    """`SchemaMissing`, `SchemaTooOld` or `SchemaTooNew` unless the schema is the one this installation needs."""
    settings = database.settings
    found = database.run(lambda connection: _version(connection, settings.schema))
    where = f"the ledger in PostgreSQL (connection {settings.connection!r}, schema {settings.schema!r})"
    if found is None:
        raise SchemaMissing(f"{where} has no tables yet. Run `airflow kafka-exactly migrate`.")
    if found < newest_version():
        raise SchemaTooOld(
            f"{where} is at version {found}, this installation needs {newest_version()}. Run `airflow kafka-exactly migrate`."
        )
    if found > newest_version():
        raise _too_new(settings, found)
    described = database.row(
        "select coalesce(obj_description(to_regnamespace(%(schema)s), 'pg_namespace'), '')",
        {"schema": f'"{settings.schema}"'},
    )
    if described != (f"functions {functions_digest()}",):
        raise SchemaTooOld(
            f"the functions of {where} are those of another version of airflow-kafka-exactly. Install one version everywhere, "
            "then run `airflow kafka-exactly migrate` with it."
        )


def _too_new(settings: LedgerSettings, found: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"the ledger in PostgreSQL (connection {settings.connection!r}, schema {settings.schema!r}) is at version {found}, "
        f"this installation knows {newest_version()}. Upgrade airflow-kafka-exactly here."
    )
