"""The ledger in memory, as commands and pages read it. Times are the injected clock's seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_kafka_exactly.adapters.memory.ledger_state import LedgerState, PlaceRow
from airflow_kafka_exactly.protocol.claims import OrphanState
from airflow_kafka_exactly.protocol.claims import Outcome as Closed
from airflow_kafka_exactly.protocol.reconciling import Outcome, deviations
from airflow_kafka_exactly.protocol.record import Partition


class MemoryReportLedger:
    """`ports.ReportLedger`."""

    def __init__(self, state: LedgerState) -> None:
        self._state = state

    def status(self) -> Mapping[str, Any]:
        state = self._state
        with state.lock:
            now, places = state.clock.now(), list(state.places.values())
            counts = Counter(
                (p.group_id, d.kind.value, d.state.value) for p in places for d in p.doubts if not d.closed
            )
            return {
                "leader": state.leader,
                "epoch": state.epoch,
                "members": [
                    {
                        "group_id": n.group_id,
                        "slot": n.slot,
                        "incarnation": n.incarnation,
                        "kind": row.asked.kind.value,
                        "owner": row.asked.owner,
                        "process": row.asked.process,
                        "state": row.state,
                        "lease_left_s": row.lease_until - now,
                    }
                    for n, row in state.lives.items()
                    if not row.over
                ],
                "partitions": [
                    {
                        **_where(p),
                        "topic_id": p.partition.topic_id,
                        "frontier": p.frontier,
                        "committed": p.committed,
                    }
                    for p in places
                ],
                "doubts": [
                    {"group_id": g, "kind": kind, "state": s, "count": n}
                    for (g, kind, s), n in sorted(counts.items())
                ],
                "orphans_open": sum(o.state is OrphanState.OPEN for p in places for o in p.orphans),
                "dead_letters": sum(len(p.letters) for p in places),
                "doubts_lost": sum(d.outcome is Closed.LOST for p in places for d in p.doubts),
                "claims_open": sum(not c.settled for p in places for c in p.claims),
            }

    def doubts(self, group_id: str | None, unclosed_only: bool) -> Sequence[Mapping[str, Any]]:
        with self._state.lock:
            return [
                {
                    "doubt_id": d.doubt_id,
                    **_where(place),
                    "start": d.start,
                    "stop": d.stop,
                    "unit": d.unit,
                    "unlisted": d.unlisted,
                    "kind": d.kind.value,
                    "state": d.state.value,
                    "durable": d.durable,
                    "slot": d.life.life.slot if d.life else None,
                    "incarnation": d.life.life.incarnation if d.life else None,
                    "version": d.version,
                    "verdict": d.verdict.value if d.verdict else None,
                    "outcome": d.outcome.value if d.outcome else None,
                    "decided_by": d.decided_by,
                    "evidence": d.evidence,
                    "reason": d.reason,
                    "created_at": d.created_at,
                    "announced_at": d.announced_at,
                    "closed_at": d.closed_at,
                }
                for place in self._state.group_places(group_id)
                for d in place.doubts
                if not (unclosed_only and d.closed)
            ]

    def orphans(self, group_id: str | None, open_only: bool) -> Sequence[Mapping[str, Any]]:
        with self._state.lock:
            return [
                {
                    "orphan_id": o.orphan_id,
                    **_where(place),
                    "start": o.start,
                    "stop": o.stop,
                    "reason": o.reason,
                    "state": o.state.value,
                    "drained_by": o.drained_by,
                }
                for place in self._state.group_places(group_id)
                for o in place.orphans
                if o.state is OrphanState.OPEN or not open_only
            ]

    def dead_letters(self, group_id: str | None) -> Sequence[Mapping[str, Any]]:
        with self._state.lock:
            return [
                {
                    "dead_letter_id": x.number,
                    **_where(place),
                    "offset": x.record.offset,
                    "reason": x.reason,
                    "attempts": x.attempts,
                    "doubt_id": x.doubt_id,
                    "buried_by": x.buried_by,
                }
                for place in self._state.group_places(group_id)
                for x in place.letters
            ]

    def lost(self, group_id: str | None) -> Sequence[Mapping[str, Any]]:
        with self._state.lock:
            return [
                {
                    "lost_id": x.number,
                    **_where(place),
                    "start": x.range.start,
                    "stop": x.range.stop,
                    "found_by": x.found_by,
                }
                for place in self._state.group_places(group_id)
                for x in place.lost
            ]

    def reconcile(self, group_id: str, committed: Mapping[Partition, int]) -> Sequence[Mapping[str, Any]]:
        with self._state.lock:
            found: list[Mapping[str, Any]] = []
            for partition, offset in sorted(committed.items()):
                place = self._state.place(group_id, partition)
                rows = [r for r in _outcomes(place) if r.start < offset] if place else []
                found += deviations(partition, place.frontier if place else 0, offset, rows)
            return found


def _where(place: PlaceRow) -> dict[str, Any]:
    return {"group_id": place.group_id, "topic": place.partition.topic, "partition": place.partition.number}


def _outcomes(place: PlaceRow) -> Iterator[Outcome]:
    for claim in place.claims:
        yield Outcome("settled", claim.claim_id, claim.start, claim.settled_to)
        if not claim.settled:
            yield Outcome("open", claim.claim_id, claim.applied, claim.stop)
    for d in place.doubts:
        what = d.outcome.value if d.outcome else "doubt" if d.durable else "bare doubt"
        yield Outcome(what, d.doubt_id, d.first, d.last + 1, f"{d.kind.value}, {d.state.value}")
        if d.applied_by is not None:
            yield Outcome("settled", d.applied_by, d.first, d.last + 1, "before it was folded")
    for letter in place.letters:
        offset = letter.record.offset
        yield Outcome("dead letter", letter.number, offset, offset + 1, str(letter.doubt_id or ""))
