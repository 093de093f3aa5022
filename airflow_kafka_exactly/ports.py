"""What runtime needs of the world. Each port is split by the place that uses it; all of them are synchronous and may be
called from several threads unless a docstring says otherwise. Adapters raise the errors of `errors.py` and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimRequest,
    ClaimResult,
    CommitCode,
    Decision,
    DoubtFacts,
    Life,
    Mark,
    Opening,
    OpenLife,
    OrphanCommit,
    OrphanState,
    Redo,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotAnswer,
    Digests,
    Dropped,
    Fact,
    Hello,
    Notice,
    Offsets,
)

# -- time --------------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Seconds that go on while the machine sleeps (CLOCK_BOOTTIME); its zero means nothing."""

    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class EffectGuard(Protocol):
    """Ends this process when the trust window ends during an effect, from outside of the interpreter's lock (S1, c)."""

    def trusted_until(self, ends_at: float) -> None:
        """The trust window's end, in the clock's seconds; moved by each renewal of the lease."""
        ...

    def begin(self) -> None:
        """Effects may be under way from now on."""
        ...

    def end(self) -> None: ...
    def close(self) -> None: ...


# -- the ledger --------------------------------------------------------------------------------------------------------


class MemberLedger(Protocol):
    """The ledger as a member uses it (S3 to S5). `Unavailable` means: the answer is not known, ask again."""

    def open_life(self, request: OpenLife) -> Life:
        """Open the next life of a slot. A current life of the same owner is superseded and keeps its lease; a live one of
        another owner raises `SlotBusy`."""
        ...

    def renew(self, life: Life, lease_s: float) -> None:
        """Renew the lease in a transaction of its own, by the ledger's clock. `Fenced` unless the life is current."""
        ...

    def close_life(self, life: Life) -> None:
        """Sign off: everything this life had claimed and not started is given back. A no-op for a life that is over.
        Whatever is between the marks stays for the fence."""
        ...

    def current_incarnation(self, group_id: str, slot: str) -> int: ...

    def open_partitions(self, life: Life, cluster_id: str, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        """Register newly assigned partitions; returns where to start: the greater of the committed offset and the
        frontier. `GroupInUse` is the caller's to raise; `LedgerBehind` when `claim_seen` was never given here."""
        ...

    def claim(self, request: ClaimRequest) -> ClaimResult:
        """The arbiter (S5). `StaleEpoch` or `Fenced` leave nothing behind. Doubts are written with their payload in
        bounded chunks; the frontier returned is that of the last durable chunk."""
        ...

    def mark(self, life: Life, marks: Sequence[Mark]) -> Mapping[Partition, int]:
        """Write marks; a claim whose applied mark reaches its stop is settled (and closes the doubt it redid). Returns the
        frontiers. `Fenced` when any of the claims is no longer open; the marks of the others are written nevertheless."""
        ...

    def give_back(self, life: Life, claim_id: int, start: int) -> None:
        """End a claim at `start`: nothing at or above it has begun. Only this lowers `started`. A redo's doubt becomes
        released again. A no-op when the claim is no longer open."""
        ...

    def raise_doubt(self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str) -> int:
        """The function raised and nobody can say when: one transaction settles what lies below `records[0]` in the
        claim, writes the doubt as raised with its payload, over `[records[0].offset, stop)`, and moves the claim's start to
        `stop` (F1). Returns the partition's frontier."""
        ...

    def bury(self, life: Life, claim: Claim, records: Sequence[RawRecord], stop: int, reason: str, attempts: int) -> int:
        """Settle `[records[0].offset, stop)` as dead letters: proven not applied, given up after `attempts` tries. Moves
        the claim's start like `raise_doubt`. Returns the frontier."""
        ...

    def claim_released(self, life: Life, epoch: int, limit: int) -> Sequence[Redo]:
        """Claim released, durable doubts of the group by compare-and-set on their rows, lowest offsets first."""
        ...

    def effect_transaction(
        self, life: Life, claim_id: int, applied: int
    ) -> AbstractContextManager[Any]:
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

    def read_back(self, epoch: int, group_id: str, offsets: Mapping[Partition, int]) -> Sequence[OrphanCommit]:
        """The group's offsets as just read from Kafka are what is known. Rows whose range is not below them any more open
        again; those are returned."""
        ...

    def close_orphan(self, epoch: int, orphan_id: int, state: OrphanState) -> bool: ...


class EvidenceLedger(Protocol):
    """The ledger as the evidence check uses it. Nothing here needs an epoch: each write is bound to the doubt's version."""

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        """Open doubts that were never announced, or not for `again_after_s`; marks them announced."""
        ...

    def hold(self, doubt_ids: Sequence[int], for_s: float) -> None:
        """An evidence check is on these doubts (it waits for a lease to end, or for a person): they are not announced for
        so long, unless they change. 0: announce them again at once."""
        ...

    def facts_of(self, doubt_ids: Sequence[int]) -> Sequence[DoubtFacts]: ...

    def find(
        self, group_id: str, topic: str, partition: int, offsets: OffsetRange
    ) -> Sequence[DoubtFacts]:
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
    def reconcile(
        self, group_id: str, committed: Mapping[Partition, int]
    ) -> Sequence[Mapping[str, Any]]:
        """Deviations: each offset (range) below `committed` that has no final outcome, or more than one (case 1)."""
        ...


# -- Kafka -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Polled:
    batches: tuple[PartitionBatch, ...]
    at_end: frozenset[Partition] = frozenset()
    """Partitions whose end (the last stable offset) was reached by this poll."""


class RebalanceListener(Protocol):
    """Called by the consumer from inside `poll` and `close`, in the polling thread."""

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        """Returns where to start in each partition."""
        ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Still the owner until this returns: drain, commit offsets, give back (section 4.8). Not called for our own close."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """No longer the owner: no offset commit."""
        ...


class GroupConsumer(Protocol):
    """A static member of a consumer group. Everything belongs to the thread that polls; also `commit`, which never returns
    from another thread while the client polls (seen with confluent-kafka 2.16)."""

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """`Fenced` when Kafka says that another process took the `group.instance.id` over. Kafka's client also says so when
        its session ended while no broker answered: read the incarnation; when it is still the current one, close this
        consumer and open another. `Unavailable`, and whatever the listener raised, pass: nothing is skipped by polling again."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def assignment(self) -> frozenset[Partition]: ...
    def commit(self, offsets: Mapping[Partition, tuple[int, int]]) -> Mapping[Partition, tuple[CommitCode, str]]:
        """Offsets and the newest claim number below each (kept in the metadata). Synchronous. Never raises for a refusal:
        each partition gets its code and Kafka's own name of the error. Nothing to commit is a no-op (case 5)."""
        ...

    def close(self) -> None:
        """Stop without leaving the group: the slot's next life gets the same partitions."""
        ...


class Consumers(Protocol):
    def open(self, slot: str, listener: RebalanceListener) -> GroupConsumer: ...


@dataclass(frozen=True, slots=True)
class TopicFacts:
    topic: str
    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class GroupFacts:
    empty: bool
    instances: tuple[str, ...]
    """`group.instance.id` of each member, "" for a dynamic one."""


class KafkaAdmin(Protocol):
    """What is asked of the cluster beside consuming."""

    def cluster_id(self) -> str: ...
    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        """`TopicMissing` names the ones that do not exist."""
        ...

    def end_offsets(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """The last stable offsets, of all partitions."""
        ...

    def group(self, group_id: str) -> GroupFacts: ...
    def committed(self, group_id: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Partitions without a committed offset, or whose topic is a new one of the same name, are left out."""
        ...

    def alter(self, group_id: str, offsets: Mapping[Partition, int]) -> Mapping[Partition, bool]:
        """Of an empty group, or it is refused (False)."""
        ...


# -- ZooKeeper ---------------------------------------------------------------------------------------------------------


class Election(Protocol):
    """One contender for leadership."""

    def contend(self, address: str, on_change: Callable[[], None]) -> None:
        """Enter the election with the address that members will be given; `on_change` may be called from any thread."""
        ...

    def leads(self) -> bool:
        """Whether this contender leads *and* may trust that: the last successful read was *sent* less than the trust window
        ago and the session is not suspended. Reads ZooKeeper when half of the window is used up."""
        ...

    def resign(self) -> None:
        """Leave the election and its session; the next contender leads at once."""
        ...


class Directory(Protocol):
    """Where everybody finds the leader, and who is alive."""

    def leader_address(self) -> str | None: ...
    def contenders(self) -> Sequence[str]:
        """Addresses, the leader's first."""
        ...

    def enter(self, name: str) -> None:
        """An ephemeral node for this process's member, for people and `status`."""
        ...

    def leave(self, name: str) -> None: ...
    def members(self) -> Sequence[str]: ...
    def close(self) -> None: ...


# -- the channel -------------------------------------------------------------------------------------------------------


class LeaderLink(Protocol):
    """A member's stream to the leader. Every call raises `NotLeading` when the peer does not lead, and `Unavailable` when
    the stream broke or the deadline passed: the votes that were asked for are then unknown."""

    @property
    def alive(self) -> bool: ...
    def hello(self, hello: Hello) -> int:
        """Returns the leader's epoch."""
        ...

    def vote(self, ballot: Ballot) -> BallotAnswer: ...
    def drop(self, dropped: Dropped) -> None: ...
    def notices(self) -> Sequence[Notice]:
        """What has come since the last call; never waits."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Addition:
    """Ids that the leader adds to a group's filter, for its standbys."""

    group_id: str
    sequence: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class FilterSnapshot:
    """A whole filter as bytes (pybloom_live's file format), with the last addition it holds."""

    group_id: str
    sequence: int
    data: bytes


class LeaderHandler(Protocol):
    """What a channel server calls. Raises `NotLeading` while this contender does not lead."""

    def hello(self, hello: Hello) -> int: ...
    def vote(self, ballot: Ballot) -> BallotAnswer: ...
    def drop(self, dropped: Dropped) -> None: ...
    def member_gone(self, life: Life) -> None:
        """Its stream broke: early news, never a proof."""
        ...

    def follow(self, standby: str) -> Sequence[FilterSnapshot]:
        """A standby starts to follow: the snapshots it begins with. From now on it is sent every addition."""
        ...

    def standby_gone(self, standby: str) -> None: ...
    def snapshots(self) -> Sequence[FilterSnapshot]:
        """What this contender's filters hold, for a new leader that collects; answered whether it leads or not."""
        ...


class ChannelServer(Protocol):
    def start(self, handler: LeaderHandler) -> str:
        """Returns the address to advertise."""
        ...

    def notify(self, notice: Notice) -> None:
        """To every member of the notice's group that is connected."""
        ...

    def replicate(self, addition: Addition) -> Mapping[str, Sequence[bool]]:
        """Send to every in-sync standby and wait for acknowledgements: for each one, which of the digests it knew. A
        standby that does not answer in time leaves the set, its stream is closed and it must follow anew."""
        ...

    def dismiss(self) -> None:
        """End every member's and standby's stream, because this contender stood down: they look for the leader again."""
        ...

    def stop(self) -> None: ...


class StandbyHandler(Protocol):
    def load(self, snapshots: Sequence[FilterSnapshot]) -> None: ...
    def add(self, addition: Addition) -> Sequence[bool]: ...


class Channel(Protocol):
    """The client's side."""

    def link(self, address: str, life: Life) -> LeaderLink: ...
    def follow(self, address: str, standby: str, handler: StandbyHandler, stop: Callable[[], bool]) -> None:
        """Follow a leader until the stream breaks (returns) or `stop()` says so. `NotLeading` when it does not lead,
        `Unavailable` when the stream breaks before the snapshots are loaded."""
        ...

    def collect(self, address: str) -> Sequence[FilterSnapshot]:
        """A standby's filters, asked by a new leader that takes office. Any contender answers."""
        ...
