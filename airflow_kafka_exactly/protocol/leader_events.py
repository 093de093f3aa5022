"""What a leader hears (events) and what it wants done (commands), in the order of a reign.

A driver carries the commands of one step out in their order and reports their results as further events. A command that others
can see (`Answer`, `Welcome`, `OpenOffice`) is only ever given after the one that makes it true (habit 4 of the style page).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.filter import Known, VoteFilter
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
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

# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elected:
    pass


@dataclass(frozen=True, slots=True)
class EpochRaised:
    """The ledger gave this epoch to us: every older one is refused from now on (S4)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a standby knew. Welcome, never required: the ledger alone makes the filter complete (S6)."""

    group_id: str
    filter: VoteFilter


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the ledger holds of one group: every unfolded claim, unclosed doubt and orphan, read while `epoch` was ours."""

    epoch: int
    group_id: str
    cluster_id: str
    ranges: Sequence[tuple[Partition, OffsetRange]]


@dataclass(frozen=True, slots=True)
class LoadedAll:
    """Every group that the ledger knew when `epoch` was raised was given as `Loaded`."""

    epoch: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Greeted:
    """A member says hello. The answer is a `Welcome` with the same ticket."""

    ticket: int
    hello: Hello


@dataclass(frozen=True, slots=True)
class Asked:
    """A member asks for votes. The answer is an `Answer` with the same ticket."""

    ticket: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Replicated:
    """Every standby that is still in sync has the addition. `known[i]`: one of them had known `digests[i]`."""

    ticket: int
    known: Known


@dataclass(frozen=True, slots=True)
class FactsRead:
    """One sequence of facts for each question, one fact for each offset."""

    ticket: int
    facts: tuple[Sequence[Fact], ...]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Nobody waits for this ticket any more (the ledger or the member was lost). Its ids stay in the filter (S6)."""

    ticket: int


@dataclass(frozen=True, slots=True)
class DropAsked:
    dropped: Dropped


@dataclass(frozen=True, slots=True)
class Ticked:
    pass


@dataclass(frozen=True, slots=True)
class LedgerLost:
    """The ledger did not answer: lives may not have been able to renew either."""


@dataclass(frozen=True, slots=True)
class OverdueRead:
    """The ledger answered: these leases are over."""

    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True)
class LivesOver:
    """Fenced or closed."""

    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True)
class Progressed:
    group_id: str
    frontiers: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Released:
    """So many doubts of the group wait to be redone."""

    group_id: str
    count: int


@dataclass(frozen=True, slots=True)
class Reopened:
    """Orphan commits that are open again: their ids enter the filter with them (S6)."""

    group_id: str
    ranges: Sequence[tuple[Partition, OffsetRange]]


@dataclass(frozen=True, slots=True)
class Deposed:
    """ZooKeeper or a newer epoch says that we do not lead, or we cannot be sure that we do."""


Event = (
    Elected
    | EpochRaised
    | Collected
    | Loaded
    | LoadedAll
    | Greeted
    | Asked
    | Replicated
    | FactsRead
    | Abandoned
    | DropAsked
    | Ticked
    | LedgerLost
    | OverdueRead
    | LivesOver
    | Progressed
    | Released
    | Reopened
    | Deposed
)

# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RaiseEpoch:
    """→ `EpochRaised`"""


@dataclass(frozen=True, slots=True)
class CollectFilters:
    """Ask every other contender → `Collected` for each filter that came."""


@dataclass(frozen=True, slots=True)
class LoadLedger:
    """→ `Loaded` for each group, then, when no group was named, `LoadedAll`."""

    epoch: int
    groups: tuple[str, ...] = ()
    """All that the ledger knows, when empty."""


@dataclass(frozen=True, slots=True)
class OpenOffice:
    """From now on votes are given."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Replicate:
    """To every standby in sync, and wait → `Replicated`"""

    ticket: int
    group_id: str
    sequence: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class AskLedger:
    """→ `FactsRead`"""

    ticket: int
    group_id: str
    questions: tuple[tuple[Partition, Offsets], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    ticket: int
    answer: BallotAnswer


@dataclass(frozen=True, slots=True)
class Welcome:
    ticket: int
    epoch: int


@dataclass(frozen=True, slots=True)
class FenceLife:
    """→ `LivesOver` when it was fenced."""

    epoch: int
    life: Life


@dataclass(frozen=True, slots=True)
class Notify:
    notice: Notice


Command = (
    RaiseEpoch
    | CollectFilters
    | LoadLedger
    | OpenOffice
    | Replicate
    | AskLedger
    | Answer
    | Welcome
    | FenceLife
    | Notify
)
