"""What the ledger in memory holds: the tables of DESIGN 7 as plain objects, changed only under one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from airflow_kafka_exactly.errors import Fenced, StaleEpoch, Unavailable
from airflow_kafka_exactly.ports import Clock
from airflow_kafka_exactly.protocol.claims import (
    DoubtKind,
    DoubtState,
    Life,
    OpenLife,
    OrphanState,
    Outcome,
    Verdict,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord


@dataclass(slots=True, eq=False)
class LifeRow:
    life: Life
    asked: OpenLife
    lease_until: float
    state: Literal["current", "superseded", "fenced", "closed"] = "current"
    ended_at: float | None = None
    step: int = 0
    """The number of its last question that granted or judged."""

    @property
    def over(self) -> bool:
        return self.state in ("fenced", "closed")

    def __str__(self) -> str:
        return f"{self.life.slot}#{self.life.incarnation}"


@dataclass(slots=True, eq=False)
class ClaimRow:
    claim_id: int
    life: LifeRow
    step: int
    start: int
    stop: int
    started: int
    applied: int
    unit: bool = False
    doubt: DoubtRow | None = None
    settled: bool = False
    in_effect: bool = False
    """An effect's transaction is under way: PostgreSQL would hold the row's lock."""

    @property
    def settled_to(self) -> int:
        return self.stop if self.settled else self.applied


@dataclass(slots=True, eq=False)
class DoubtRow:
    doubt_id: int
    place: PlaceRow
    start: int
    stop: int
    first: int
    last: int
    unit: bool
    kind: DoubtKind
    reason: str
    created_at: float
    kind_since: float
    stored_to: int
    unlisted: bool = False
    life: LifeRow | None = None
    written_by: LifeRow | None = None
    claim_id: int | None = None
    state: DoubtState = DoubtState.OPEN
    settled: bool = False
    version: int = 1
    records: dict[int, RawRecord] = field(default_factory=dict)
    verdict: Verdict | None = None
    outcome: Outcome | None = None
    evidence: Mapping[str, object] | None = None
    decided_by: str | None = None
    announced_at: float | None = None
    quiet_until: float | None = None
    closed_at: float | None = None
    applied_by: int | None = None
    """The folded claim whose applied mark covered its records."""

    @property
    def durable(self) -> bool:
        return self.stored_to >= self.stop

    @property
    def closed(self) -> bool:
        return self.state is DoubtState.CLOSED

    @property
    def by_ledger(self) -> bool:
        return self.kind in (DoubtKind.VOTE, DoubtKind.COLLISION)


@dataclass(slots=True, eq=False)
class OrphanRow:
    orphan_id: int
    start: int
    stop: int
    reason: str
    state: OrphanState = OrphanState.OPEN
    drained_by: str | None = None


@dataclass(slots=True, eq=False)
class LetterRow:
    number: int
    record: RawRecord
    reason: str
    attempts: int
    doubt_id: int | None
    buried_by: str


@dataclass(frozen=True, slots=True)
class LostRow:
    number: int
    range: OffsetRange
    found_by: str


@dataclass(slots=True, eq=False)
class PlaceRow:
    """A partition of one group."""

    group_id: str
    cluster_id: str
    partition: Partition
    frontier: int
    committed: int
    last_life: LifeRow | None
    claims: list[ClaimRow] = field(default_factory=list)
    doubts: list[DoubtRow] = field(default_factory=list)
    orphans: list[OrphanRow] = field(default_factory=list)
    letters: list[LetterRow] = field(default_factory=list)
    lost: list[LostRow] = field(default_factory=list)
    failing: dict[int, tuple[int, int, float]] = field(default_factory=dict)
    """Of records that were given back after tries in vain: up to where, how many, and since when."""

    def claim_at(self, offset: int) -> ClaimRow | None:
        return next((c for c in self.claims if c.start <= offset < c.stop), None)

    def doubt_at(self, offset: int) -> DoubtRow | None:
        return next((d for d in self.doubts if d.start <= offset < d.stop), None)

    def unclosed(self, start: int, stop: int) -> list[DoubtRow]:
        """Unclosed doubts that touch the range, in offset order."""
        return [d for d in self.touching(start, stop) if not d.closed]

    def touching(self, start: int, stop: int) -> list[DoubtRow]:
        return sorted((d for d in self.doubts if d.start < stop and start < d.stop), key=lambda d: d.start)

    def not_listed(self, found: OffsetRange) -> list[OffsetRange]:
        """What of it is not listed as lost yet, in offset order."""
        fresh, position = [], found.start
        for known in sorted((row.range for row in self.lost), key=lambda r: r.start):
            if known.stop > position and known.start < found.stop:
                if known.start > position:
                    fresh.append(OffsetRange(position, known.start))
                position = known.stop
        return [*fresh, OffsetRange(position, found.stop)] if position < found.stop else fresh


class LedgerState:
    """Everything, and the guards of S4. Each public method of the ports holds `lock` from its first read to its last write."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.epoch, self.leader = 0, ""
        self.lives: dict[Life, LifeRow] = {}
        self.owners: dict[str, tuple[str, str]] = {}
        """Of groups: DAG id and task id."""
        self.places: dict[tuple[str, str, str, int], PlaceRow] = {}
        self.claim_numbers, self.numbers = count(1), count(1)
        self.newest_claim = 0
        self.audit: list[tuple[str, int, str, str]] = []

    def require_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise StaleEpoch(f"the ledger is at epoch {self.epoch}, this is of epoch {epoch}")

    def require_current(self, life: Life) -> LifeRow:
        row = self.lives.get(life)
        if row is None or row.state != "current":
            raise Fenced(f"life {life.incarnation} of slot {life.slot} is {row.state if row else 'unknown'}")
        return row

    def is_over(self, life: Life) -> bool:
        row = self.lives.get(life)
        return row is None or row.over

    def next_claim(self) -> int:
        self.newest_claim = next(self.claim_numbers)
        return self.newest_claim

    def note(self, entity: str, number: int, change: str, by: object) -> None:
        self.audit.append((entity, number, change, str(by)))

    def group_places(self, group_id: str | None) -> list[PlaceRow]:
        return [p for p in self.places.values() if group_id in (None, p.group_id)]

    def place(self, group_id: str, partition: Partition) -> PlaceRow | None:
        """The one that was registered last, should the same topic have been seen on two clusters."""
        found = [p for p in self.group_places(group_id) if _same(p.partition, partition)]
        return found[-1] if found else None

    def open_claim(self, life: Life, claim_id: int) -> tuple[PlaceRow, ClaimRow] | None:
        for place in self.group_places(life.group_id):
            for row in place.claims:
                if row.claim_id == claim_id and row.life.life == life and not row.settled:
                    if row.in_effect:
                        raise Unavailable(
                            "PostgreSQL", "memory", "the claim is locked by an effect's transaction"
                        )
                    return place, row
        return None

    def claims_of(self, row: LifeRow) -> Iterator[tuple[PlaceRow, ClaimRow]]:
        for place in list(self.places.values()):
            for claim in sorted(place.claims, key=lambda c: c.start):
                if claim.life is row and not claim.settled:
                    if claim.in_effect:
                        raise Unavailable(
                            "PostgreSQL", "memory", "the claim is locked by an effect's transaction"
                        )
                    yield place, claim

    def doubt(self, doubt_id: int) -> DoubtRow | None:
        return next((d for p in self.places.values() for d in p.doubts if d.doubt_id == doubt_id), None)


def _same(one: Partition, other: Partition) -> bool:
    return (one.topic_id, one.number) == (other.topic_id, other.number)
