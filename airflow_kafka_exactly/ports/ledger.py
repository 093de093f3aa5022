"""The ledger, split by the place that uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimRequest,
    ClaimResult,
    Decision,
    DoubtFacts,
    Failing,
    Life,
    Mark,
    Opening,
    OpenLife,
    OrphanCommit,
    OrphanState,
    Redo,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord
from airflow_kafka_exactly.protocol.votes import (
    Fact,
    Offsets,
)


class MemberLedger(Protocol):
    """The ledger as a member uses it (S3 to S5). `Unavailable` means: the answer is not known, ask again."""

    def open_life(self, request: OpenLife) -> Life:
        """Open the next life of a slot. A current life of the same owner is superseded and keeps its lease; a live one of
        another owner raises `SlotBusy`. The group belongs to the task of its first life: another one's raises `GroupInUse`."""
        ...

    def move_group(self, group_id: str, dag_id: str, task_id: str, by: str) -> tuple[str, str] | None:
        """The DAG or task was renamed: the group is that one's from now on. Returns whose it was, as far as that is known.
        `GroupInUse` while a life of the group has its lease, `ConfigurationError` when the group never had one."""
        ...

    def renew(self, life: Life, lease_s: float) -> None:
        """Renew the lease in a transaction of its own, by the ledger's clock. `Fenced` unless the life is current."""
        ...

    def close_life(self, life: Life) -> None:
        """Sign off: everything this life had claimed and not started is given back. A no-op for a life that is over.
        Whatever is between the marks stays for the fence."""
        ...

    def current_incarnation(self, group_id: str, slot: str) -> int: ...

    def last_owner(self, group_id: str, slot: str) -> str:
        """Of the slot's newest life, whether it lives or not; empty when there was none."""
        ...

    def open_partitions(
        self, life: Life, cluster_id: str, openings: Sequence[Opening]
    ) -> Mapping[Partition, int]:
        """Register newly assigned partitions; returns where to start: the greater of the committed offset and the
        frontier. `GroupInUse` is the caller's to raise; `LedgerBehind` when `claim_seen` was never given here."""
        ...

    def claim(self, request: ClaimRequest) -> ClaimResult:
        """The arbiter (S5). `StaleEpoch` or `Fenced` leave nothing behind and use up no number. Doubts are written with their
        payload in bounded chunks; the frontier returned is that of the last durable chunk."""
        ...

    def mark(self, life: Life, marks: Sequence[Mark]) -> Mapping[Partition, int]:
        """Write marks; a claim whose applied mark reaches its stop is settled (and closes the doubt it redid). Returns the
        frontiers. `Fenced` when any of the claims is no longer open; the marks of the others are written nevertheless."""
        ...

    def give_back(self, life: Life, claim_id: int, start: int, failing: Sequence[Failing] = ()) -> None:
        """End a claim at `start`: nothing at or above it has begun, or provably had no effect. Only this lowers `started`. A
        redo's doubt becomes released again. `failing` is kept until the record is settled, with the earliest beginning and the
        greatest number of attempts that anybody has told. A no-op when the claim is no longer open."""
        ...

    def failing(self, claim: Claim) -> Sequence[Failing]:
        """What was told of the claim's records by those who had them before, in offset order."""
        ...

    def raise_doubt(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str
    ) -> int:
        """The function raised and nobody can say when: one transaction settles what lies below `records[0]` in the
        claim, writes the doubt as raised with its payload, over `[records[0].offset, stop)`, and moves the claim's start to
        `stop` (F1). Returns the partition's frontier."""
        ...

    def bury(
        self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str, attempts: int
    ) -> int:
        """Settle `[records[0].offset, stop)` as dead letters: proven not applied, given up after `attempts` tries. Moves
        the claim's start like `raise_doubt`. Returns the frontier."""
        ...

    def claim_released(self, life: Life, epoch: int, step: int, limit: int) -> Sequence[Redo]:
        """Claim released, durable doubts of the group by compare-and-set on their rows, lowest offsets first. `step` is of the
        same numbers as a `ClaimRequest`'s, and is asked again like it."""
        ...

    def effect_transaction(self, life: Life, claim_id: int, applied: int) -> AbstractContextManager[Any]:
        """For `effect="ledger"`: a transaction whose first statement locks the claim and writes the applied mark, and a
        cursor that cannot commit. Leaving it without an exception commits. `Fenced` when the claim is not open."""
        ...

    def committed(self, life: Life, offsets: Mapping[Partition, int]) -> None:
        """Kafka accepted offset commits: what the group's offsets were last known to be (S8)."""
        ...

    def refused(self, life: Life, offsets: Mapping[Partition, int], reason: str) -> int:
        """Kafka refused offset commits: record the settled ranges above the last known offsets as orphan commits, with
        the reason. Returns how many rows were written. Needs no current life."""
        ...

    def record_lost(self, life: Life, lost: Mapping[Partition, OffsetRange]) -> int:
        """Offsets that were deleted before they were read, of opened partitions. Returns how many of them are new: the same
        ones are met again by whoever polls before the gap is settled."""
        ...

    def frontiers(self, group_id: str, topics: Iterable[str]) -> Mapping[Partition, int]:
        """Of all known partitions of the topics."""
        ...

    def released_count(self, group_id: str) -> int:
        """How many doubts wait for a member to redo them."""
        ...


@dataclass(frozen=True, slots=True)
class KnownIds:
    """What a leader must have in its filter before it votes (S6): of every unfolded claim, unclosed doubt and orphan."""

    cluster_id: str
    ranges: Sequence[tuple[Partition, OffsetRange]]


@dataclass(frozen=True, slots=True)
class OverdueLife:
    life: Life
    overdue_s: float


class LeaderLedger(Protocol):
    """The ledger as the leader uses it. Every write carries the epoch and raises `StaleEpoch` when it is not current."""

    def raise_epoch(self, leader: str) -> int:
        """Take office: one more than any epoch before."""
        ...

    def groups(self) -> Sequence[str]: ...
    def kafka_connection(self, group_id: str) -> str:
        """The connection that the group's newest life named; empty when none did."""
        ...

    def load(self, group_id: str) -> KnownIds: ...

    def facts(self, group_id: str, partition: Partition, offsets: Offsets) -> Sequence[Fact]:
        """One fact for each offset."""
        ...

    def progress(self, group_id: str) -> Mapping[Partition, int]:
        """The frontier of every partition of the group: no offset is altered past it, nothing below it stays reserved."""
        ...

    def released_count(self, group_id: str) -> int:
        """How many doubts wait for a member to redo them: the members are told."""
        ...

    def over(self, lives: Sequence[Life]) -> Sequence[Life]:
        """Those that were fenced or closed (by whomever): what is reserved for them is free again (S6)."""
        ...

    def overdue(self) -> Sequence[OverdueLife]:
        """Lives whose lease is over and that were not fenced or closed."""
        ...

    def fence(self, epoch: int, life: Life) -> bool:
        """`fence(life)`, one ledger function (section 5): False when the lease is not over (any more) or it was done before."""
        ...

    def sweep_orphans(self, epoch: int) -> Sequence[OrphanCommit]:
        """Write the orphan rows that lives could not write: settled above the last known offset with no current life that
        was assigned the partition; returns all open orphans of all groups."""
        ...

    def read_back(
        self, epoch: int, group_id: str, offsets: Mapping[Partition, int]
    ) -> Sequence[OrphanCommit]:
        """The group's offsets as just read from Kafka are what is known. Rows whose range is not below them any more open
        again; those are returned."""
        ...

    def without_payload(self, group_id: str) -> Sequence[Partition]:
        """Where unclosed doubts wait for a payload."""
        ...

    def close_lost(self, epoch: int, group_id: str, partitions: Sequence[Partition], reason: str) -> int:
        """The partitions' topics are gone: no payload comes any more. Their doubts without one are closed as lost, with the
        reason, except what an applied mark covers or an open claim holds. Returns how many."""
        ...

    def close_orphan(self, epoch: int, orphan_id: int, state: OrphanState) -> bool: ...


class EvidenceLedger(Protocol):
    """The ledger as the evidence check uses it. Nothing here needs an epoch: each write is bound to the doubt's version."""

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        """Open doubts that were never announced, or not for `again_after_s`; marks them announced."""
        ...

    def hold(self, versions: Mapping[int, int], for_s: float) -> None:
        """An evidence check is on these doubts (it waits for a lease to end, or for a person): they are not announced for
        so long, unless they change. 0: announce them again at once. By id and version, like every write here: what has changed
        since it was looked at is another question, and not held."""
        ...

    def facts_of(self, doubt_ids: Sequence[int]) -> Sequence[DoubtFacts]: ...

    def find(self, group_id: str, topic: str, partition: int, offsets: OffsetRange) -> Sequence[DoubtFacts]:
        """Unclosed doubts in a range (the form of the evidence-check DAG)."""
        ...

    def payload(self, doubt_id: int) -> Sequence[RawRecord]: ...

    def decide(self, decision: Decision) -> bool:
        """False (a no-op) unless the doubt, its version and its life are still the ones that were judged."""
        ...


class ReportLedger(Protocol):
    """The ledger as commands and pages read it: rows as plain mappings, ready to print."""

    def status(self) -> Mapping[str, Any]: ...
    def doubts(self, group_id: str | None, unclosed_only: bool) -> Sequence[Mapping[str, Any]]: ...
    def orphans(self, group_id: str | None, open_only: bool) -> Sequence[Mapping[str, Any]]: ...
    def lost(self, group_id: str | None) -> Sequence[Mapping[str, Any]]:
        """Ranges that were deleted from Kafka before they were read (L2)."""
        ...

    def dead_letters(self, group_id: str | None) -> Sequence[Mapping[str, Any]]: ...
    def reconcile(self, group_id: str, committed: Mapping[Partition, int]) -> Sequence[Mapping[str, Any]]:
        """Deviations: each offset (range) below `committed` that has no final outcome, or more than one (case 1)."""
        ...
