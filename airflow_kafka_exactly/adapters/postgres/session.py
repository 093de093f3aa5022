"""What a session is set to. A role, a database or a pooler sets defaults of its own; none of them may change what the ledger
does, so every setting that could is set here and read back, and one that cannot be kept is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.settings import LedgerSettings

Connection = psycopg.Connection[TupleRow]

_ALWAYS = {
    # Every guard reads again, in a new statement, after it has got its lock (S4): a transaction of one snapshot would not see.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "client_encoding": "UTF8",
    # With backslashes as escapes, statements end where they do not seem to.
    "standard_conforming_strings": "on",
}
_OURS = {
    # Our statements name their schema.
    "search_path": "pg_catalog, pg_temp",
    # How values are read and written.
    "array_nulls": "on",
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "transform_null_equals": "off",
}
"""Not for a user's statements (`effect="ledger"`): they find their tables and read their dates as their role does."""

IDLE_S = 3.0
"""What the ledger does is one statement. Who stands still in a transaction is frozen, and its locks are not kept for it. (An
effect's transaction sets its own, below the lease.)"""

_SET = """
select name, pg_catalog.set_config(name, value, false) as kept
  from (values ('synchronous_commit', case when pg_catalog.current_setting('synchronous_commit') in ('off', 'local') then 'on'
                                           else pg_catalog.current_setting('synchronous_commit') end)) as durable (name, value)
union all
select key, pg_catalog.set_config(key, value, false) from pg_catalog.jsonb_each_text(%s::pg_catalog.jsonb)
"""
"""`synchronous_commit`: an answer that the server may forget is none (S3). What is stronger than `on` stays."""
_READ_BACK = (
    "select name, pg_catalog.current_setting(name) from pg_catalog.unnest(%s::pg_catalog.text[]) as name"
)
# One round trip, as `discard all` cannot share one: what a user's function left, before the connection is used again.
_RESET = (
    "reset session authorization; reset all; deallocate all; close all; unlisten *;"
    " select pg_catalog.pg_advisory_unlock_all(); discard sequences; discard temp"
)


def prepare_connection(
    connection: Connection, settings: LedgerSettings, *, for_effects: bool = False
) -> None:
    """Statements, because poolers between us and the ledger refuse start-up options. `ConfigurationError` when a setting is not
    kept from one transaction to the next."""
    wanted = {**_ALWAYS, **_times(settings), **({} if for_effects else _OURS)}
    if connection.info.server_version >= 170_000:
        wanted["transaction_timeout"] = "0"
    kept = _pairs(connection, _SET, json.dumps(wanted))
    found = _pairs(connection, _READ_BACK, list(kept))
    for name, value in kept.items():
        if found.get(name) != value:
            raise ConfigurationError(
                f"PostgreSQL (connection {settings.connection!r}): a session does not keep its setting {name} = {value!r} "
                f"from one transaction to the next (it is {found.get(name)!r}). Is a pooler in between that pools "
                "transactions or statements? The ledger needs sessions: connect directly, or let the pooler pool sessions."
            )


def reset_connection(connection: Connection, settings: LedgerSettings) -> None:
    """Forget what a user's function left in the session: roles, settings, temporary tables, prepared statements, locks."""
    connection.execute(_RESET)
    prepare_connection(connection, settings, for_effects=True)


def _times(settings: LedgerSettings) -> Mapping[str, str]:
    times = {
        "lock_timeout": settings.lock_timeout_s,
        "statement_timeout": settings.statement_timeout_s,
        "idle_in_transaction_session_timeout": IDLE_S,
    }
    return {name: str(round(seconds * 1000)) for name, seconds in times.items()}


def _pairs(connection: Connection, statement: str, parameter: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in connection.execute(statement.encode(), [parameter])}
