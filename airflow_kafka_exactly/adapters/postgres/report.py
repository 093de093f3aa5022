"""The ledger as commands and pages read it, on PostgreSQL: rows as plain mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.statements import statements
from airflow_kafka_exactly.protocol.reconciling import Outcome, deviations
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.storable import storable


class PostgresReportLedger:
    """`ports.ReportLedger`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = statements("report", database.settings.schema)

    def status(self) -> Mapping[str, Any]:
        """`leader`, `epoch`, `raised_at`, `members`, `partitions`, `doubts` (unclosed, counted by group, kind and state),
        `orphans_open`, `dead_letters`, `claims_open`."""
        return {
            **self._rows("leader")[0],
            "members": self._rows("members"),
            "partitions": self._rows("partitions"),
            "doubts": self._rows("doubt_counts"),
            **self._rows("totals")[0],
        }

    def doubts(self, group_id: str | None, unclosed_only: bool) -> Sequence[Mapping[str, Any]]:
        return self._rows("doubts", group=group_id, unclosed=unclosed_only)

    def orphans(self, group_id: str | None, open_only: bool) -> Sequence[Mapping[str, Any]]:
        return self._rows("orphans", group=group_id, open=open_only)

    def dead_letters(self, group_id: str | None) -> Sequence[Mapping[str, Any]]:
        return self._rows("dead_letters", group=group_id)

    def lost(self, group_id: str | None) -> Sequence[Mapping[str, Any]]:
        return self._rows("lost", group=group_id)

    def reconcile(self, group_id: str, committed: Mapping[Partition, int]) -> Sequence[Mapping[str, Any]]:
        places = {
            Partition(row["topic_id"], row["number"], row["topic"]): (row["partition_id"], row["frontier"])
            for row in self._rows("places", group=group_id)
        }
        known = {partition: offset for partition, offset in committed.items() if partition in places}
        rows = self._rows("outcomes", places=[places[p][0] for p in known], offsets=list(known.values()))
        found: list[Mapping[str, Any]] = []
        for partition, offset in sorted(committed.items()):
            number, frontier = places.get(partition, (None, 0))
            mine = [
                Outcome(r["what"], r["id"], r["start"], r["stop"], r["detail"])
                for r in rows
                if r["partition_id"] == number
            ]
            found += deviations(partition, frontier, offset, mine)
        return found

    def _rows(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        asked = {name: storable(of) if isinstance(of, str) else of for name, of in parameters.items()}

        def read(connection: Any) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return list(cursor.execute(self._sql[name].encode(), asked).fetchall())

        return self._db.run(read)
