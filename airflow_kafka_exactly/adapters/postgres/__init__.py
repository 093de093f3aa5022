"""The ledger on PostgreSQL: the only truth (DESIGN 7)."""

from airflow_kafka_exactly.adapters.postgres.ledgers import Ledgers, open_ledger
from airflow_kafka_exactly.adapters.postgres.schema import migrate

__all__ = ["Ledgers", "migrate", "open_ledger"]
