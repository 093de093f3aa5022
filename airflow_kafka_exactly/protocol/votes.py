"""Votes: what a member asks the leader about a batch, and what the leader answers.

A vote never gives a right (S5); it saves the ledger from being asked about every record and tells people early.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt

from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

Digests = npt.NDArray[np.uint64]
"""Shape (n, 2): the canonical 128-bit digest of each record id."""
Offsets = npt.NDArray[np.int64]
"""Shape (n,)."""
Votes = npt.NDArray[np.uint8]
"""Shape (n,): one `Vote` for each record."""


class Vote(IntEnum):
    FRESH = 0
    SETTLED = 1
    DOUBTFUL = 2


class Fact(IntEnum):
    """What the ledger says about a record that the filter has seen."""

    UNKNOWN = 0  # in no claim and no doubt, at or above the frontier
    SETTLED = 1  # below the frontier, or applied
    CLAIMED = 2  # in an open claim
    DOUBTED = 3  # an unclosed doubt stands


@dataclass(frozen=True, slots=True)
class BallotPart:
    """One partition of a ballot. `digests[i]` belongs to `offsets[i]`."""

    partition: Partition
    range: OffsetRange
    offsets: Offsets
    digests: Digests


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote request: a whole batch."""

    life: Life
    parts: tuple[BallotPart, ...]


@dataclass(frozen=True, slots=True)
class BallotAnswer:
    """The leader's votes, in the order of the ballot's parts and records, with the epoch they hold in."""

    epoch: int
    votes: tuple[Votes, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """How a member starts (or starts again) to talk to a leader: who it is and what it has in hand (sync mode)."""

    life: Life
    cluster_id: str
    in_hand: tuple[BallotPart, ...] = ()
    """Polled but unclaimed: voted by an earlier leader, or asked when that was lost. They enter the filter, reserved for
    this slot, so that no other slot is told *fresh* about them."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Records that a slot will not claim after all (a lost partition): their reservation ends."""

    life: Life
    partitions: tuple[Partition, ...]


class NoticeKind(StrEnum):
    RELEASED_DOUBTS = "released_doubts"  # there is something to redo
    COMMIT_AGAIN = "commit_again"  # an orphan commit of a partition that this member owns


@dataclass(frozen=True, slots=True)
class Notice:
    """What the leader tells members without being asked."""

    group_id: str
    kind: NoticeKind
    partitions: tuple[Partition, ...] = ()
