"""The ledger's schema: numbered migrations, and the functions, which are replaced as a whole each time.

`migrate` may be run by several processes at once: an advisory lock lets one after the other through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import errors as pg

from airflow_kafka_exactly.adapters.postgres.pool import Database, connect, has_served, note_served
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


FUNCTIONS = 2
"""The version of `functions/*.sql` as callers see them: it grows when what one takes, answers or means changes (0.1.0: 1)."""
SERVES_FROM = 2
"""The oldest version whose callers these functions still serve: an installation in between works on, whichever migrated."""
_SAID = re.compile(r"functions (\d+) serve (\d+)")


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
        "select set_config('lock_timeout', '60s', true), set_config('statement_timeout', '300s', true),"
        " set_config('idle_in_transaction_session_timeout', '60s', true)"
    )
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
    before = _version(connection, settings.schema) or 0
    if before > newest_version() or _functions(connection, settings.schema)[0] > FUNCTIONS:
        raise _too_new(settings, before)
    if before == 0:
        _refuse_a_used_schema(connection, settings)
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
    _drop(connection, _LEFT_OVER, [[*_made(), *_RETIRED]])
    said = f"functions {FUNCTIONS} serve {SERVES_FROM}"
    connection.execute(in_schema(f"comment on schema kafka_exactly is '{said}'", settings.schema))
    return before, newest_version()


_RETIRED = ("offsets_between",)
"""Functions that an older version made and no file makes any more. Nothing else in the schema is dropped: it may be a user's."""
_NAMES = re.compile(r"create or replace function kafka_exactly\.(\w+)")

# An overload that no file makes any more keeps old rules alive, and makes calls ambiguous. What this transaction has (re)placed
# is younger than itself; an extension's functions are not ours.
_LEFT_OVER = """
select format('drop routine %%s', p.oid::regprocedure) from pg_proc p
 where p.pronamespace = current_schema()::regnamespace and p.prorettype <> 'trigger'::regtype and p.proname = any(%s)
   and age(p.xmin) > age(pg_current_xact_id()::xid)
   and not exists (select from pg_depend d where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e')
"""

_SOMEBODY_ELSES = """
select format('%%s %%I', case when x.kind = 'pg_proc'::regclass then 'routine' else 'relation' end, x.name)
  from (select oid, relname, relnamespace, 'pg_class'::regclass from pg_class where relkind not in ('i', 'I')
        union all select oid, proname, pronamespace, 'pg_proc'::regclass from pg_proc) as x (oid, name, schema, kind)
 where x.schema = to_regnamespace(%s)
   and not exists (select from pg_depend d where d.objid = x.oid and d.classid = x.kind and d.deptype = 'e')
 order by 1 limit 1
"""


def _drop(connection: Connection, which: str, parameters: Sequence[object] = ()) -> None:
    for (statement,) in connection.execute(which.encode(), parameters or None).fetchall():
        connection.execute(statement.encode())


def _made() -> list[str]:
    return [name for f in _files("functions") for name in _NAMES.findall(f.read_text(encoding="utf-8"))]


def _refuse_a_used_schema(connection: Connection, settings: LedgerSettings) -> None:
    """An application's schema, `public` say: our functions and theirs would replace and drop each other's."""
    found = connection.execute(_SOMEBODY_ELSES.encode(), [f'"{settings.schema}"']).fetchone()
    if found:
        raise ConfigurationError(
            f"PostgreSQL (connection {settings.connection!r}): the schema {settings.schema!r} holds no ledger, but "
            f"something else ({found[0]}). Give the ledger a schema of its own: set [kafka_exactly] ledger_schema "
            "to one that is empty, or does not exist yet."
        )


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
        _drop(
            connection,
            "select format('drop routine %%s', p.oid::regprocedure) from pg_proc p"
            " where p.pronamespace = current_schema()::regnamespace and p.prorettype <> 'trigger'::regtype"
            " and p.proname in (select (regexp_matches(%s, 'function \"\\w+\"\\.(\\w+)', 'g'))[1])",
            [functions.decode()],
        )
        connection.execute(functions)


def _version(connection: Connection, schema: str) -> int | None:
    """None: there is no such table."""
    if connection.execute("select to_regclass(%s)", [f'"{schema}".schema_version']).fetchone() == (None,):
        return None
    row = connection.execute(
        in_schema("select coalesce(max(version), 0) from kafka_exactly.schema_version", schema)
    ).fetchone()
    return int(row[0]) if row else 0


def _functions(connection: Connection, schema: str) -> tuple[int, int]:
    """The version of the functions that are there, and the oldest whose callers they serve."""
    row = connection.execute(
        "select coalesce(obj_description(to_regnamespace(%s), 'pg_namespace'), '')", [f'"{schema}"']
    ).fetchone()
    said = _SAID.fullmatch(row[0]) if row else None
    return (int(said[1]), int(said[2])) if said else (1, 1)


def check_schema(database: Database) -> None:
    """`SchemaMissing`, `SchemaTooOld` or `SchemaTooNew` unless the ledger's tables and functions serve this installation. What
    is missing of a ledger that has served this process comes again: then it is `Unavailable`."""
    settings = database.settings
    try:
        _check_schema(database, settings)
    except (SchemaMissing, SchemaTooOld) as behind:
        if has_served(settings):
            raise Unavailable("PostgreSQL", settings.connection, behind) from behind
        raise
    note_served(settings)


def _check_schema(database: Database, settings: LedgerSettings) -> None:
    found, functions, serves_from = database.run(
        lambda c: (_version(c, settings.schema), *_functions(c, settings.schema))
    )
    where = f"the ledger in PostgreSQL (connection {settings.connection!r}, schema {settings.schema!r})"
    if found is None:
        raise SchemaMissing(f"{where} has no tables yet. Run `airflow kafka-exactly migrate`.")
    if found < newest_version():
        raise SchemaTooOld(
            f"{where} is at version {found}, this installation needs {newest_version()}. Run `airflow kafka-exactly migrate`."
        )
    if functions < FUNCTIONS:
        raise SchemaTooOld(
            f"the functions of {where} are of version {functions}, this installation needs {FUNCTIONS}. Run "
            "`airflow kafka-exactly migrate`."
        )
    if serves_from > FUNCTIONS:
        raise _too_new(settings, found)


def _too_new(settings: LedgerSettings, found: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"the ledger in PostgreSQL (connection {settings.connection!r}, schema {settings.schema!r}) is at version {found}, with "
        f"functions of a newer airflow-kafka-exactly; this installation knows version {newest_version()} and functions "
        f"{FUNCTIONS}. Upgrade airflow-kafka-exactly here."
    )
