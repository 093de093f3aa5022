"""The ledger as the evidence check uses it, on PostgreSQL (section 6). Each write is bound to the doubt's version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.rows import to_check, to_record
from airflow_kafka_exactly.adapters.postgres.statements import statements
from airflow_kafka_exactly.protocol.claims import Decision, DoubtFacts, DoubtKind, DoubtState
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord
from airflow_kafka_exactly.protocol.storable import LARGEST, storable

FOR_EVER_S = 1e11
"""More seconds than this do not fit into a calendar: `response_timeout=timedelta.max` is an honest way to write "no limit"."""


class PostgresEvidenceLedger:
    """`ports.EvidenceLedger`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = statements("evidence", database.settings.schema)

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        rows = self._db.rows(
            self._sql["announce"], {"limit": limit, "again_s": min(again_after_s, FOR_EVER_S)}
        )
        return self.facts_of([doubt_id for (doubt_id,) in rows])

    def hold(self, versions: Mapping[int, int], for_s: float) -> None:
        doubts = _known(list(versions))
        asked = {"doubts": doubts, "versions": [versions[d] for d in doubts], "for_s": min(for_s, FOR_EVER_S)}
        self._db.execute(self._sql["hold"], asked)

    def facts_of(self, doubt_ids: Sequence[int]) -> Sequence[DoubtFacts]:
        if not doubt_ids:
            return []
        asked = {"doubts": _known(doubt_ids)}
        return [_facts(row) for row in self._db.rows(self._sql["facts_of"], asked)]

    def find(self, group_id: str, topic: str, partition: int, offsets: OffsetRange) -> Sequence[DoubtFacts]:
        asked = {
            "group": storable(group_id),
            "topic": storable(topic),
            "number": partition,
            "start": offsets.start,
            "stop": offsets.stop,
        }
        return self.facts_of([doubt_id for (doubt_id,) in self._db.rows(self._sql["find"], asked)])

    def payload(self, doubt_id: int) -> Sequence[RawRecord]:
        return [to_record(row) for row in self._db.rows(self._sql["payload"], {"doubt": doubt_id})]

    def decide(self, decision: Decision) -> bool:
        row = self._db.row(
            self._sql["decide"],
            {
                "doubt": decision.doubt_id,
                "version": decision.version,
                "verdict": decision.verdict.value,
                "by": decision.by,
                "evidence": Jsonb(dict(decision.evidence)),
                "dead_letter": decision.dead_letter,
            },
        )
        return bool(row[0])


def _known(doubt_ids: Sequence[int]) -> list[int]:
    """Those that may be a doubt's: an event that a person made may name any number."""
    return [doubt_id for doubt_id in doubt_ids if 0 < doubt_id <= LARGEST]


def _facts(row: Sequence[Any]) -> DoubtFacts:
    return DoubtFacts(
        doubt_id=row[0],
        version=row[1],
        group_id=row[2],
        cluster_id=row[3],
        partition=Partition(row[4], row[5], row[6]),
        range=OffsetRange(row[7], row[8]),
        unit=row[9],
        kind=DoubtKind(row[10]),
        state=DoubtState(row[11]),
        durable=row[12],
        slot=row[13],
        incarnation=row[14],
        settled_elsewhere=row[15],
        claim_id=row[16],
        claim_started=row[17],
        lease_left_s=row[18],
        since_lease_end_s=row[19],
        age_s=row[20],
        passed=row[21],
        unread=row[22],
        check=to_check(row[23]),
        reason=row[24],
    )
