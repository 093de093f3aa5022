"""What a leader knows about one consumer group, and how it judges a ballot of it.

The filter sorts the records that were never heard of (fresh, at once) from those that perhaps were; only about these is the
ledger asked. False positives cost a question, never a wrong vote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.filter import Known, VoteFilter
from airflow_kafka_exactly.protocol.identity import range_chunks
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.reservations import Reservations
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotPart,
    Digests,
    Dropped,
    Fact,
    Hello,
    Offsets,
    Vote,
    Votes,
)
from airflow_kafka_exactly.settings import FilterSettings

_VOTE_OF = np.array([Vote.FRESH, Vote.SETTLED, Vote.DOUBTFUL, Vote.DOUBTFUL], dtype=np.uint8)
"""By `Fact`. `UNKNOWN` is fresh unless another slot holds a reservation."""


@dataclass(slots=True)
class Counts:
    """Of this leader's reign, for people."""

    asked: int = 0
    fresh: int = 0
    settled: int = 0
    doubtful: int = 0
    positives: int = 0
    """The filter (ours or a standby's) seemed to know the id."""
    unfounded: int = 0
    """Positives that neither the ledger nor a reservation knows: false positives, and ids that were dropped or given back."""


@dataclass(slots=True)
class Query:
    """A ballot on its way: what the filter said, and since then the standbys."""

    ballot: Ballot
    known: list[Known]
    """One for each part of the ballot."""

    def heard(self, known: Known) -> None:
        """The standbys' knowledge of what was new to us, in the order of the digests that were sent to them (union)."""
        at = 0
        for part in self.known:
            new = np.flatnonzero(~part)
            part[new] = known[at : at + len(new)]
            at += len(new)

    def questions(self) -> tuple[tuple[Partition, Offsets], ...]:
        return tuple(
            (part.partition, part.offsets[known])
            for part, known in zip(self.ballot.parts, self.known, strict=True)
            if known.any()
        )


@dataclass(slots=True)
class Desk:
    group_id: str
    settings: FilterSettings
    filter: VoteFilter
    cluster_id: str = ""
    loaded_epoch: int = 0
    """The epoch under which the ledger was loaded; 0 before (S6)."""
    sequence: int = 0
    """Of the last addition that standbys were sent."""
    rotating: bool = False
    reservations: Reservations = field(default_factory=Reservations)
    counts: Counts = field(default_factory=Counts)
    newest: dict[str, int] = field(default_factory=dict)
    """The newest incarnation heard of in each slot that said hello."""

    def load(self, ranges: Iterable[tuple[Partition, OffsetRange]]) -> None:
        """Add every id of the ranges."""
        ranges = list(ranges)
        self.filter.load(
            lambda: (d for p, offsets in ranges for d in range_chunks(self.cluster_id, p, offsets))
        )

    def begin_rotation(self) -> None:
        """What is reserved *now* goes into the new generation at once: it may be claimed after the ledger was read and
        dropped before the rotation ends."""
        self.rotating = True
        self.filter.begin_rotation()
        self.load(self.reservations.ranges())

    def end_rotation(self) -> None:
        self.rotating = False
        self.filter.end_rotation()

    def end_reign(self) -> None:
        """What this leader has *heard* stays in its filter. Whom it told fresh is over with its epoch, whose votes are refused,
        and members have to say hello again."""
        self.rotating = False
        self.reservations = Reservations()
        self.newest.clear()

    def greet(self, hello: Hello) -> Digests:
        """What the member has in hand is reserved for its slot. Returns the digests that are new."""
        self.cluster_id = self.cluster_id or hello.cluster_id
        slot, incarnation = hello.life.slot, hello.life.incarnation
        self.newest[slot] = max(incarnation, self.newest.get(slot, 0))
        new = []
        for part in hello.in_hand:
            known = self.filter.add(part.digests)
            self._reserve(slot, part, np.ones(len(known), dtype=np.bool_))
            new.append(part.digests[~known])
        return _joined(new)

    def ask(self, ballot: Ballot) -> tuple[Query, Digests]:
        """Every id asked about enters the filter, whatever will be answered (S6), and stays at least until the next but one
        rotation. What is new is reserved for the asking slot in the same step: a second slot that asks a moment later finds
        both. Returns the digests that are new."""
        known = []
        for part in ballot.parts:
            found = self.filter.add(part.digests)
            self._reserve(ballot.life.slot, part, ~found)
            known.append(found)
        query = Query(ballot, known)
        return query, _joined([part.digests[~k] for part, k in zip(ballot.parts, known, strict=True)])

    def judge(self, query: Query, facts: Sequence[Sequence[Fact]]) -> tuple[Votes, ...]:
        """`facts` answers `query.questions()`, in that order."""
        answers = iter(facts)
        votes = []
        for part, known in zip(query.ballot.parts, query.known, strict=True):
            told = np.fromiter(next(answers), dtype=np.uint8) if known.any() else np.empty(0, dtype=np.uint8)
            votes.append(self._judge_part(query.ballot.life.slot, part, known, told))
        return tuple(votes)

    def _judge_part(self, slot: str, part: BallotPart, known: Known, facts: Votes) -> Votes:
        offsets = part.offsets[known]
        assert len(facts) == len(offsets), "one fact for each offset that was asked about"
        unknown = facts == Fact.UNKNOWN
        others = unknown & self.reservations.holds_for_others(slot, part.partition, offsets)
        self._count_positives(
            len(offsets), int((unknown & ~self.reservations.holds(part.partition, offsets)).sum())
        )
        judged = _VOTE_OF[facts]
        judged[others] = Vote.DOUBTFUL  # never "wait": that was a dead end in the model
        votes = np.full(len(part.offsets), Vote.FRESH, dtype=np.uint8)
        votes[known] = judged
        fresh = votes == Vote.FRESH
        self._reserve(slot, part, fresh)
        # A ballot may be on its way for longer than a rotation, which forgets what was known before it began.
        self.filter.add(part.digests[fresh & known])
        self._count_votes(votes)
        return votes

    def drop(self, dropped: Dropped) -> None:
        self.reservations.free(dropped.life.slot, dropped.partitions)

    def over(self, life: Life) -> None:
        """Fenced or closed. A newer life of the slot keeps what its elder was told."""
        if self.newest.get(life.slot, life.incarnation) <= life.incarnation:
            self.reservations.free(life.slot)
            self.newest.pop(life.slot, None)

    def holders(self) -> tuple[Life, ...]:
        """The newest lives of the slots that hold reservations or said hello."""
        return tuple(
            Life(group_id=self.group_id, slot=slot, incarnation=newest)
            for slot, newest in self.newest.items()
        )

    def _reserve(self, slot: str, part: BallotPart, chosen: Known) -> None:
        if self.reservations.full(part.partition):
            raise Unavailable(
                "the leader",
                "group " + self.group_id,
                f"too many reservations in {part.partition}: ask again",
            )
        self.reservations.reserve(slot, part.partition, part.offsets, chosen)

    def _count_positives(self, positives: int, unfounded: int) -> None:
        self.counts.positives += positives
        self.counts.unfounded += unfounded

    def _count_votes(self, votes: Votes) -> None:
        fresh, settled, doubtful = np.bincount(votes, minlength=3).tolist()
        self.counts.asked += len(votes)
        self.counts.fresh += fresh
        self.counts.settled += settled
        self.counts.doubtful += doubtful


def _joined(digests: Sequence[Digests]) -> Digests:
    return np.concatenate(digests) if digests else np.empty((0, 2), dtype=np.uint64)
