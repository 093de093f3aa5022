"""The ledger as a member uses it, on PostgreSQL (S3 to S5). The rules are in `functions/*.sql`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from psycopg.types.json import Jsonb

from airflow_kafka_exactly.adapters.postgres.effect import EffectCursor, effect_transaction
from airflow_kafka_exactly.adapters.postgres.pool import Database
from airflow_kafka_exactly.adapters.postgres.rows import of_check, of_life, of_offsets, of_records, to_record
from airflow_kafka_exactly.adapters.postgres.statements import statements
from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimPart,
    ClaimRequest,
    ClaimResult,
    Failing,
    Life,
    Mark,
    Opening,
    OpenLife,
    Redo,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord, payload_bytes
from airflow_kafka_exactly.protocol.storable import require_name, storable

CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_RECORDS = 500
"""A doubts' payload is stored in transactions of at most so much: a storm of them holds no partition's lock for long (H27)."""


class PostgresMemberLedger:
    """`ports.MemberLedger`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = statements("member", database.settings.schema)

    # -- lives ---------------------------------------------------------------------------------------------------------

    def open_life(self, request: OpenLife) -> Life:
        row = self._db.row(
            self._sql["open_life"],
            {
                "group": request.group_id,
                "cluster": request.cluster_id,
                "slot": request.slot,
                "owner": request.owner,
                "kind": request.kind.value,
                "process": request.process,
                "lease_s": request.lease_s,
                "check": of_check(request.check),
                "kafka_connection": request.kafka_connection,
                "dag": request.dag_id,
                "task": request.task_id,
            },
        )
        return Life(group_id=request.group_id, slot=request.slot, incarnation=row[0])

    def move_group(self, group_id: str, dag_id: str, task_id: str, by: str) -> tuple[str, str] | None:
        require_name("the DAG", dag_id)
        require_name("the task", task_id)
        asked = {"group": storable(group_id), "dag": dag_id, "task": task_id, "by": storable(by)}
        rows = self._db.rows(self._sql["move_group"], asked)
        return (rows[0][0], rows[0][1]) if rows else None

    def renew(self, life: Life, lease_s: float) -> None:
        if not self._db.execute(self._sql["renew"], {**of_life(life), "lease_s": lease_s}):
            raise Fenced(f"life {life.incarnation} of slot {life.slot} is over or superseded")

    def close_life(self, life: Life) -> None:
        self._db.rows(self._sql["close_life"], of_life(life))

    def current_incarnation(self, group_id: str, slot: str) -> int:
        return int(self._db.row(self._sql["current_incarnation"], {"group": group_id, "slot": slot})[0])

    def last_owner(self, group_id: str, slot: str) -> str:
        return str(self._db.row(self._sql["last_owner"], {"group": group_id, "slot": slot})[0])

    def open_partitions(
        self, life: Life, cluster_id: str, openings: Sequence[Opening]
    ) -> Mapping[Partition, int]:
        asked = [
            {
                "topic_id": o.partition.topic_id,
                "number": o.partition.number,
                "topic": o.partition.topic,
                "start": o.start,
                "committed": o.committed,
                "claim_seen": o.claim_seen,
            }
            for o in openings
        ]
        rows = self._db.rows(
            self._sql["open_partitions"], {**of_life(life), "cluster": cluster_id, "openings": Jsonb(asked)}
        )
        return {Partition(topic_id, number, topic): start for topic_id, number, topic, start in rows}

    # -- claims --------------------------------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> ClaimResult:
        rows = self._db.rows(
            self._sql["claim"],
            {
                **of_life(request.life),
                "epoch": request.epoch,
                "step": request.step,
                "unit": request.unit,
                "parts": Jsonb([_asked(part) for part in request.parts]),
            },
        )
        granted: list[Claim] = []
        settled: dict[Partition, list[OffsetRange]] = {}
        doubted: dict[Partition, list[OffsetRange]] = {}
        frontiers: dict[Partition, int] = {}
        new, bare = 0, set[int]()
        for index, what, start, stop, number in rows:
            partition = request.parts[index].partition
            match what:
                case "granted":
                    span = OffsetRange(start, stop)
                    granted.append(Claim(number, request.life, partition, span, start, start, request.unit))
                case "settled":
                    settled.setdefault(partition, []).append(OffsetRange(start, stop))
                case "doubted":
                    doubted.setdefault(partition, []).append(OffsetRange(start, stop))
                    bare |= {index} if number else set()
                case "new":
                    new += number
                case "frontier":
                    frontiers[partition] = start
        for index in sorted(bare):
            part = request.parts[index]
            frontiers[part.partition] = self._store_payload(request.life, part, doubted[part.partition])
        return ClaimResult(tuple(granted), _frozen(settled), _frozen(doubted), frontiers, new)

    def _store_payload(self, life: Life, part: ClaimPart, doubted: Sequence[OffsetRange]) -> int:
        """Make the doubts of a batch durable (S2), chunk by chunk in offset order; returns the frontier after the last."""
        frontier = -1
        asked = {**of_life(life), "topic_id": part.partition.topic_id, "number": part.partition.number}
        for span in doubted:
            for start, stop, records in _chunks(part.batch.between(span.start, span.stop), span):
                chunk = {"start": start, "stop": stop, **of_records(records)}
                frontier = _number(self._db.row(self._sql["store_payload"], {**asked, **chunk}))
        return frontier

    def mark(self, life: Life, marks: Sequence[Mark]) -> Mapping[Partition, int]:
        if not marks:
            return {}
        rows = self._db.rows(
            self._sql["mark"],
            {
                **of_life(life),
                "claims": [m.claim_id for m in marks],
                "started": [m.started for m in marks],
                "applied": [m.applied for m in marks],
            },
        )
        if any(refused for *_, refused in rows):
            raise Fenced(f"claims of life {life.incarnation} of slot {life.slot} were fenced")
        return {Partition(t, n, name): frontier for t, n, name, frontier, _ in rows if t is not None}

    def give_back(self, life: Life, claim_id: int, start: int, failing: Sequence[Failing] = ()) -> None:
        noted = {
            "failing": [f.offset for f in failing],
            "stops": [f.stop for f in failing],
            "attempts": [f.attempts for f in failing],
            "for_s": [f.for_s for f in failing],
        }
        self._db.rows(self._sql["give_back"], {**of_life(life), "claim": claim_id, "start": start, **noted})

    def failing(self, claim: Claim) -> Sequence[Failing]:
        rows = self._db.rows(self._sql["failing"], {"claim": claim.claim_id})
        return [Failing(*row) for row in rows]

    def claim_released(self, life: Life, epoch: int, step: int, limit: int) -> Sequence[Redo]:
        asked = {**of_life(life), "epoch": epoch, "step": step, "limit": limit}
        rows = self._db.rows(self._sql["claim_released"], asked)
        payloads: dict[int, list[RawRecord]] = {}
        if rows:
            for row in self._db.rows(self._sql["payloads"], {"doubts": [r[6] for r in rows]}):
                payloads.setdefault(row[0], []).append(to_record(row[1:]))
        return [
            Redo(
                Claim(
                    r[0], life, Partition(r[7], r[8], r[9]), OffsetRange(r[1], r[2]), r[3], r[4], r[5], r[6]
                ),
                tuple(payloads.get(r[6], ())),
            )
            for r in rows
        ]

    # -- what no mark says ---------------------------------------------------------------------------------------------

    def raise_doubt(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str
    ) -> int:
        return self._decide("raise_doubt", life, claim, records, {"stop": stop, "reason": storable(reason)})

    def bury(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str, attempts: int
    ) -> int:
        how = {"stop": stop, "reason": storable(reason), "attempts": attempts}
        return self._decide("bury", life, claim, records, how)

    def _decide(
        self, what: str, life: Life, claim: Claim, records: Sequence[RawRecord], how: Mapping[str, Any]
    ) -> int:
        """What and which records in one statement: nobody who freezes on the way holds the partition's lock."""
        about = {**of_life(life), "claim": claim.claim_id, "first": records[0].offset, **how}
        (frontier,) = self._db.row(self._sql[what], {**about, **of_records(records)})
        if frontier is None:  # it was done before: the answer was lost
            place = {"topic_id": claim.partition.topic_id, "number": claim.partition.number}
            (frontier,) = self._db.row(self._sql["frontier_of_claim"], {"group": life.group_id, **place})
        return int(frontier)

    def effect_transaction(
        self, life: Life, claim_id: int, applied: int
    ) -> AbstractContextManager[EffectCursor]:
        return effect_transaction(
            self._db, self._sql, {**of_life(life), "claim": claim_id, "applied": applied}
        )

    # -- offset commits ------------------------------------------------------------------------------------------------

    def committed(self, life: Life, offsets: Mapping[Partition, int]) -> None:
        if offsets:
            by = f"{life.slot}#{life.incarnation}"
            self._db.rows(
                self._sql["committed"], {"group": life.group_id, "by": by, "offsets": of_offsets(offsets)}
            )

    def refused(self, life: Life, offsets: Mapping[Partition, int], reason: str) -> int:
        if not offsets:
            return 0
        return _number(
            self._db.row(
                self._sql["refused"],
                {"group": life.group_id, "offsets": of_offsets(offsets), "reason": storable(reason)},
            )
        )

    def record_lost(self, life: Life, lost: Mapping[Partition, OffsetRange]) -> int:
        ranges = [
            {"topic_id": p.topic_id, "number": p.number, "start": r.start, "stop": r.stop}
            for p, r in lost.items()
        ]
        return _number(self._db.row(self._sql["record_lost"], {**of_life(life), "lost": Jsonb(ranges)}))

    def frontiers(self, group_id: str, topics: Iterable[str]) -> Mapping[Partition, int]:
        rows = self._db.rows(self._sql["frontiers"], {"group": group_id, "topics": list(topics)})
        return {Partition(topic_id, number, topic): frontier for topic_id, number, topic, frontier in rows}

    def released_count(self, group_id: str) -> int:
        return _number(self._db.row(self._sql["released_count"], {"group": group_id}))


def _asked(part: ClaimPart) -> dict[str, Any]:
    span, records = part.batch.range, part.batch.records
    dense = len(records) == len(span)  # the usual case, in which nothing need be listed
    return {
        "topic_id": part.partition.topic_id,
        "number": part.partition.number,
        "start": span.start,
        "stop": span.stop,
        "segments": [[s.range.start, s.range.stop, s.doubtful] for s in part.segments if len(s.range)],
        "offsets": None if dense else [r.offset for r in records],
    }


def _chunks(
    records: Sequence[RawRecord], span: OffsetRange
) -> Iterator[tuple[int, int, Sequence[RawRecord]]]:
    """`(start, stop, records)` of at most `CHUNK_RECORDS` and about `CHUNK_BYTES`; together they cover `span`."""
    start, chunk, size = span.start, list[RawRecord](), 0
    for record in records:
        if chunk and (len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES):
            yield start, record.offset, chunk
            start, chunk, size = record.offset, [], 0
        chunk.append(record)
        size += payload_bytes((record,))
    yield start, span.stop, chunk


def _frozen(ranges: Mapping[Partition, list[OffsetRange]]) -> dict[Partition, tuple[OffsetRange, ...]]:
    return {partition: tuple(found) for partition, found in ranges.items()}


def _number(row: Sequence[Any] | None) -> int:
    assert row is not None, "the statement always returns a row"
    return int(row[0])
