"""The ledger as the leader uses it, on PostgreSQL. Every write carries the epoch (S4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.rows import of_life, of_offsets
from airflow_kafka_exactly.adapters.postgres.statements import statements
from airflow_kafka_exactly.ports import KnownIds, OverdueLife
from airflow_kafka_exactly.protocol.claims import Life, OrphanCommit, OrphanState
from airflow_kafka_exactly.protocol.judging import judge_offsets
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.storable import storable
from airflow_kafka_exactly.protocol.votes import Fact, Offsets


class PostgresLeaderLedger:
    """`ports.LeaderLedger`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = statements("leader", database.settings.schema)

    def raise_epoch(self, leader: str) -> int:
        return int(self._db.row(self._sql["raise_epoch"], {"leader": storable(leader)})[0])

    def groups(self) -> Sequence[str]:
        return [group for (group,) in self._db.rows(self._sql["groups"])]

    def kafka_connection(self, group_id: str) -> str:
        rows = self._db.rows(self._sql["kafka_connection"], {"group": group_id})
        return str(rows[0][0]) if rows else ""

    def load(self, group_id: str) -> KnownIds:
        cluster = self._db.rows(self._sql["cluster_of"], {"group": group_id})
        rows = self._db.rows(self._sql["load"], {"group": group_id})
        ranges = [(Partition(t, n, name), OffsetRange(start, stop)) for t, n, name, start, stop in rows]
        return KnownIds(cluster[0][0] if cluster else "", ranges)

    def facts(self, group_id: str, partition: Partition, offsets: Offsets) -> Sequence[Fact]:
        if not len(offsets):
            return []
        asked = {
            "group": group_id,
            "topic_id": partition.topic_id,
            "number": partition.number,
            "low": int(offsets.min()),
            "high": int(offsets.max()) + 1,
        }
        return judge_offsets(offsets, ((f, a, b) for f, a, b in self._db.rows(self._sql["facts"], asked)))

    def progress(self, group_id: str) -> Mapping[Partition, int]:
        rows = self._db.rows(self._sql["progress"], {"group": group_id})
        return {Partition(topic_id, number, topic): frontier for topic_id, number, topic, frontier in rows}

    def released_count(self, group_id: str) -> int:
        return int(self._db.row(self._sql["released_count"], {"group": group_id})[0])

    def over(self, lives: Sequence[Life]) -> Sequence[Life]:
        asked = {
            "groups": [life.group_id for life in lives],
            "slots": [life.slot for life in lives],
            "incarnations": [life.incarnation for life in lives],
        }
        return [
            Life(group_id=g, slot=s, incarnation=i) for g, s, i in self._db.rows(self._sql["over"], asked)
        ]

    def overdue(self) -> Sequence[OverdueLife]:
        return [
            OverdueLife(Life(group_id=g, slot=s, incarnation=i), overdue_s)
            for g, s, i, overdue_s in self._db.rows(self._sql["overdue"])
        ]

    def fence(self, epoch: int, life: Life) -> bool:
        return bool(self._db.row(self._sql["fence"], {**of_life(life), "epoch": epoch})[0])

    def sweep_orphans(self, epoch: int) -> Sequence[OrphanCommit]:
        self._db.rows(self._sql["sweep_orphans"], {"epoch": epoch})
        return [_orphan(row) for row in self._db.rows(self._sql["open_orphans"])]

    def read_back(
        self, epoch: int, group_id: str, offsets: Mapping[Partition, int]
    ) -> Sequence[OrphanCommit]:
        asked = {"epoch": epoch, "group": group_id, "offsets": of_offsets(offsets)}
        reopened = [number for (number,) in self._db.rows(self._sql["reopened"], asked)]
        if not reopened:
            return []
        return [_orphan(row) for row in self._db.rows(self._sql["read_back"], {"orphans": reopened})]

    def without_payload(self, group_id: str) -> Sequence[Partition]:
        return [Partition(*row) for row in self._db.rows(self._sql["without_payload"], {"group": group_id})]

    def close_lost(self, epoch: int, group_id: str, partitions: Sequence[Partition], reason: str) -> int:
        asked = {
            "epoch": epoch,
            "group": group_id,
            "places": Jsonb([{"topic_id": p.topic_id, "number": p.number} for p in partitions]),
            "reason": reason,
        }
        return int(self._db.row(self._sql["close_lost"], asked)[0])

    def close_orphan(self, epoch: int, orphan_id: int, state: OrphanState) -> bool:
        asked = {"epoch": epoch, "orphan": orphan_id, "state": state.value}
        return bool(self._db.row(self._sql["close_orphan"], asked)[0])


def _orphan(row: Sequence[Any]) -> OrphanCommit:
    orphan_id, group, topic_id, number, topic, start, stop, reason, state = row
    return OrphanCommit(
        orphan_id=orphan_id,
        group_id=group,
        partition=Partition(topic_id, number, topic),
        range=OffsetRange(start, stop),
        reason=reason,
        state=OrphanState(state),
    )
