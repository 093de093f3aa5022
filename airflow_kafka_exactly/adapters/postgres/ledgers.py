"""One ledger for one process: the four ports over one pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_kafka_exactly.adapters.postgres.evidence import PostgresEvidenceLedger
from airflow_kafka_exactly.adapters.postgres.leader import PostgresLeaderLedger
from airflow_kafka_exactly.adapters.postgres.member import PostgresMemberLedger
from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.report import PostgresReportLedger
from airflow_kafka_exactly.adapters.postgres.schema import check_schema
from airflow_kafka_exactly.settings import LedgerSettings


@dataclass(frozen=True, slots=True)
class Ledgers:
    """The ledger, by the place that uses it."""

    member: PostgresMemberLedger
    leader: PostgresLeaderLedger
    evidence: PostgresEvidenceLedger
    report: PostgresReportLedger
    close: Callable[[], None]


def open_ledger(settings: LedgerSettings) -> Ledgers:
    """Open the ledger in the process that uses it (never before a fork). Raises `SchemaMissing`, `SchemaTooOld`,
    `SchemaTooNew`, `ConfigurationError` (login, host, database) or `Unavailable`."""
    database = Database(settings)
    try:
        check_schema(database)
    except BaseException:
        database.close()
        raise
    return Ledgers(
        PostgresMemberLedger(database),
        PostgresLeaderLedger(database),
        PostgresEvidenceLedger(database),
        PostgresReportLedger(database),
        database.close,
    )
