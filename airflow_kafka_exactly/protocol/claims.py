"""Lives, claims and doubts: what the ledger holds, and what a member asks of it.

The claim transaction is the arbiter (S5). A vote only chooses what a member asks for: it *claims* what was voted fresh or
settled (the arbiter skips what is settled anyway) and *doubts* what was voted doubtful. That is why any vote is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.protocol.storable import require_json, require_name, storable, storable_json

LONGEST_LEASE_S = 86_400.0


class LifeKind(StrEnum):
    WORKER = "worker"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process's time in a slot. `incarnation` grows with each life of the slot."""

    group_id: str
    slot: str
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReference:
    """How another process finds the user's check and what the user chose in writing (S7)."""

    path: str = ""
    """`module:name`, or empty when there is no check."""
    file: str = ""
    """The DAG file to load when `path`'s module cannot be imported by name."""
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    batch: bool = False
    """The check is asked about a list of records, the whole batch unit."""
    on_undecidable: str = "person"
    """"person", "redo", "discard" or "dead_letter"."""
    effect_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLife:
    group_id: str
    cluster_id: str
    slot: str
    owner: str
    kind: LifeKind
    process: str
    """`host:pid`, for people."""
    lease_s: float
    check: CheckReference = CheckReference()
    kafka_connection: str = ""
    """The Airflow connection that the group is consumed by: how a leader that never consumed it finds its cluster."""
    dag_id: str = ""
    task_id: str = ""
    """The task that the member is of: it owns the group from its first life on. Empty (no Airflow task): nobody is asked."""

    def __post_init__(self) -> None:
        require_name("the consumer group", self.group_id)
        require_name("the slot", self.slot)
        require_name("the Kafka cluster", self.cluster_id)
        require_name("the Kafka connection", self.kafka_connection)
        require_name("the DAG", self.dag_id)
        require_name("the task", self.task_id)
        if not 0 < self.lease_s <= LONGEST_LEASE_S:
            raise ValueError(f"a lease of {self.lease_s} s")
        require_json("the check and its arguments", asdict(self.check))
        object.__setattr__(self, "owner", storable(self.owner))
        object.__setattr__(self, "process", storable(self.process))


@dataclass(frozen=True, slots=True)
class Opening:
    """A partition that was just assigned, as Kafka knows it."""

    partition: Partition
    start: int
    """The group's committed offset, or where `auto.offset.reset` says to begin when there is none."""
    committed: bool
    """Whether `start` is a committed offset."""
    claim_seen: int = 0
    """The claim number in the offset commit's metadata (0: none): a ledger that never gave it has forgotten things."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of offsets of one partition with one vote."""

    range: OffsetRange
    doubtful: bool


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """One partition of a claim request. The segments cover the batch's range without a hole, in order."""

    batch: PartitionBatch
    segments: tuple[Segment, ...]

    @property
    def partition(self) -> Partition:
        return self.batch.partition


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    life: Life
    epoch: int
    """Of the votes. An older one than the ledger's raises `StaleEpoch`."""
    step: int
    """The life's next number, one for each question. One that is not greater than the last that was answered grants nothing new:
    asked again after a lost answer, it returns what it was granted the first time, whatever the epoch is by then."""
    parts: tuple[ClaimPart, ...]
    unit: bool = False
    """A batch function: each granted range is one unit with one start, one mark and one check."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A fenced right to run the records of `range`. `doubt_id` is set when it is the redo of a released doubt."""

    claim_id: int
    life: Life
    partition: Partition
    range: OffsetRange
    started: int
    applied: int
    unit: bool = False
    doubt_id: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What the arbiter answered. Every offset of the request is in exactly one of the four."""

    granted: tuple[Claim, ...]
    settled: Mapping[Partition, tuple[OffsetRange, ...]]
    """Skipped: settled before."""
    doubted: Mapping[Partition, tuple[OffsetRange, ...]]
    """Skipped: a durable doubt stands (it was there, or was written now)."""
    frontiers: Mapping[Partition, int]
    new_doubts: int = 0


@dataclass(frozen=True, slots=True)
class Redo:
    """A released doubt, claimed, with the records it holds."""

    claim: Claim
    records: tuple[RawRecord, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Monotone (`greatest`): `started` is the stop of what may have begun, `applied` of what has happened."""

    claim_id: int
    started: int
    applied: int


@dataclass(frozen=True, slots=True)
class Failing:
    """A record, or a unit, that was tried in vain and provably had no effect: how often so far, and since how long it fails.
    Whoever tries next may have another unit that begins with the same record: this is of all up to `stop`."""

    offset: int
    stop: int
    attempts: int
    for_s: float


class DoubtKind(StrEnum):
    """Why a record is doubted; what may decide it follows from this and from the claim in question (section 6)."""

    VOTE = "vote"  # the leader had heard of it, nobody holds it
    COLLISION = "collision"  # part of another life's claim
    WINDOW = "window"  # between the marks of a fenced life
    RAISED = "raised"  # the function raised, and nobody can say whether before or after the effect


class DoubtState(StrEnum):
    OPEN = "open"
    RELEASED = "released"
    CLAIMED = "claimed"
    CLOSED = "closed"


class Verdict(StrEnum):
    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How a doubt was closed."""

    DISCARDED = "discarded"  # its effect had happened
    REDONE = "redone"
    DEAD_LETTER = "dead_letter"
    NO_RECORD = "no_record"  # a gap in the log (a transaction marker, a compacted record)
    LOST = "lost"  # its payload never came and cannot come any more, and nobody knows whether its effect happened


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtFacts:
    """Everything the ledger knows about a doubt, read in one statement: what `evidence.weigh` judges.

    `version` grows with every change of the doubt; a verdict names the version it judged (F1 to F3 and the ABA of two
    evidence runs).
    """

    doubt_id: int
    version: int
    group_id: str
    cluster_id: str
    partition: Partition
    range: OffsetRange
    unit: bool
    kind: DoubtKind
    state: DoubtState
    durable: bool
    """Its payload is stored (S2). Without it the doubt can be released but not claimed."""
    slot: str | None
    incarnation: int | None
    """The life in question: the one whose claim or window it is."""
    settled_elsewhere: bool
    """An applied mark, or the frontier's history, covers the record: it was applied. (A durable unclosed doubt below the
    frontier is not settled by that alone: the frontier passes those.)"""
    claim_id: int | None
    """The *open* claim of another life that covers the record now, if any."""
    claim_started: bool
    """Whether that claim's started mark covers the record."""
    lease_left_s: float
    """Of the life in question, by the ledger's clock; 0 or less when over. A fenced or closed life has none."""
    since_lease_end_s: float
    """How long that lease has been over (0 while it is not)."""
    age_s: float
    """Since the doubt took its present kind: for a raised one, since the function raised."""
    passed: bool
    """The group's offset in Kafka is past it although its payload is not stored: it was moved by hand, and Kafka does not
    deliver the record again."""
    unread: bool
    """No life that lives has opened its partition."""
    check: CheckReference
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict or a person's ruling on one doubt; refused (a no-op) unless doubt, version and life are still current."""

    doubt_id: int
    version: int
    verdict: Verdict
    by: str
    """Who decided: "ledger", "check", "policy", or the person's name."""
    evidence: Mapping[str, object]
    dead_letter: bool = False
    """Close it as a dead letter instead (a ruling or the policy; never by itself)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", storable(self.by))
        object.__setattr__(self, "evidence", storable_json(self.evidence))


class CommitCode(StrEnum):
    """What an offset commit's answer means; the Kafka adapter's table maps every error code to one of these."""

    ACCEPTED = "accepted"
    ORPHAN = "orphan"  # no longer ours: the settled range becomes an orphan commit
    RETRY = "retry"
    FATAL = "fatal"


class OrphanState(StrEnum):
    OPEN = "open"
    SUPERSEDED = "superseded"  # the group's offset had passed it
    MEMBER = "member"  # a live member committed past it after it was told
    ALTERED = "altered"  # the leader altered the offsets of an empty group


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanCommit:
    orphan_id: int
    group_id: str
    partition: Partition
    range: OffsetRange
    reason: str
    state: OrphanState
