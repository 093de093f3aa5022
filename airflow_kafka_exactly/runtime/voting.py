"""Asks the leader for votes, one batch ahead of the user's function, and rides out elections.

A member whose leader is lost while its vote is out keeps the records in hand, unclaimed and uncommitted, says hello with
them to the next leader and asks that (seed rules 10 and 13). Without a leader it waits; it never guesses.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from airflow_kafka_exactly.errors import NoLeader, NotLeading, PeerRefused, Unavailable
from airflow_kafka_exactly.ports import Channel, Directory, LeaderLink
from airflow_kafka_exactly.protocol.record import Batch, Partition
from airflow_kafka_exactly.protocol.segments import ballot_parts, count_votes
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotAnswer,
    BallotPart,
    Dropped,
    Hello,
    Notice,
    Vote,
    Votes,
)
from airflow_kafka_exactly.runtime.polling import Hand, HeldPart
from airflow_kafka_exactly.runtime.shared import Shared

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_AGAIN_S = 0.2
SAY_AGAIN_S = 10.0
STAY_KNOWN_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class VotedBatch:
    parts: tuple[HeldPart, ...]
    answer: BallotAnswer

    def __len__(self) -> int:
        """How many records; a gap has none."""
        return sum(len(part.batch.records) for part in self.parts)

    def cut(self, records: int | None) -> tuple[VotedBatch, VotedBatch | None]:
        """The first `records` of it, and the rest; None when nothing is left."""
        if records is None or records >= len(self):
            return self, None
        heads: list[tuple[HeldPart, Votes]] = []
        tails: list[tuple[HeldPart, Votes]] = []
        room = records
        for part, votes in zip(self.parts, self.answer.votes, strict=True):
            head, tail = part.batch.cut(room)
            if len(head.range):
                heads.append((HeldPart(head, part.tenure), votes[: len(head.records)]))
            if tail is not None:
                tails.append((HeldPart(tail, part.tenure), votes[len(head.records) :]))
            room -= len(head.records)
        return self._of(heads), self._of(tails)

    @property
    def partition(self) -> Partition:
        """Of a single part."""
        (part,) = self.parts
        return part.batch.partition

    def alone(self) -> Iterator[VotedBatch]:
        """Its parts, each by itself."""
        for part, votes in zip(self.parts, self.answer.votes, strict=True):
            yield self._of([(part, votes)])

    def from_offset(self, start: int) -> VotedBatch:
        """What of a single part lies at or above an offset, which one of its records does."""
        (part,) = self.parts
        _, rest = self.cut(len(part.batch.between(part.batch.range.start, start)))
        assert rest is not None
        return rest

    def only(self, wanted: Callable[[Partition], bool]) -> VotedBatch:
        pairs = zip(self.parts, self.answer.votes, strict=True)
        return self._of([(part, votes) for part, votes in pairs if wanted(part.batch.partition)])

    def _of(self, chosen: Sequence[tuple[HeldPart, Votes]]) -> VotedBatch:
        answer = replace(self.answer, votes=tuple(votes for _, votes in chosen))
        return VotedBatch(tuple(part for part, _ in chosen), answer)


class LeaderFinder:
    """Keeps one link to whoever leads. One caller at a time."""

    def __init__(self, directory: Directory, channel: Channel, shared: Shared) -> None:
        self._directory, self._channel = directory, channel
        self._life, self._cluster_id = shared.life, shared.cluster_id
        self._link: LeaderLink | None = None
        self.epoch = 0
        """Of the leader that the last hello was said to."""

    @property
    def linked(self) -> bool:
        link = self._link
        return link is not None and link.alive

    def link(self, in_hand: tuple[BallotPart, ...]) -> LeaderLink:
        """A link over which hello was said. `NotLeading` or `Unavailable` when there is no leader to be found now;
        `PeerRefused` when the first one that was found wants nothing of us."""
        if self._link is None or not self._link.alive:
            self.drop()
            address = self._directory.leader_address()
            if address is None:
                raise NoLeader
            try:
                self._say_hello(address, in_hand)
            except PeerRefused as refused:
                if self.epoch:  # others were heard: a secret or version that is just being changed, one leader after the other
                    raise Unavailable("the leader", address, refused) from refused
                raise
        assert self._link is not None
        return self._link

    def _say_hello(self, address: str, in_hand: tuple[BallotPart, ...]) -> None:
        link = self._channel.link(address, self._life, lambda: self._another_leads(address))
        try:
            epoch = link.hello(Hello(self._life, self._cluster_id, in_hand))
        except BaseException:
            link.close()
            raise
        log.info("%s: said hello to the leader at %s, epoch %d", self._life.slot, address, epoch)
        self._link, self.epoch = link, epoch

    def _another_leads(self, address: str) -> bool:
        """A frozen leader answers nothing and closes nothing: the directory is looked at while its answer is waited for."""
        try:
            return self._directory.leader_address() not in (None, address)
        except Unavailable:
            return False

    def drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def forget(self, partitions: Sequence[Partition]) -> None:
        """What was asked about these partitions and not claimed is free for others (from any thread). A leader that does not
        hear it answers them *doubtful*, which costs an evidence check and no more."""
        link = self._link
        if link is not None and partitions:
            try:
                link.drop(Dropped(self._life, tuple(partitions)))
            except (NotLeading, Unavailable) as deaf:
                log.info("%s: the leader did not hear of dropped partitions: %s", self._life.slot, deaf)

    def notices(self) -> Sequence[Notice]:
        link = self._link
        return link.notices() if link is not None else ()


class Voter:
    def __init__(self, finder: LeaderFinder, hand: Hand, shared: Shared, leader_timeout_s: float) -> None:
        self._finder, self._hand, self._of = finder, hand, shared
        self._leader_timeout_s = leader_timeout_s
        self._asking = threading.Lock()
        self._voted: queue.Queue[VotedBatch] = queue.Queue(maxsize=1)
        self._in_flight = False
        self._known_at = float("-inf")

    # -- the thread

    def run(self) -> None:
        while not self._of.background.stopping.is_set():
            parts = self._next_parts()
            if parts:
                self._put(self.ask(parts))
                self._in_flight = False
            else:
                self._stay_known()

    def _next_parts(self) -> tuple[HeldPart, ...]:
        """Everything pending, once there is a full batch of it or it has waited long enough."""
        hand, limit = self._hand, self._of.settings.max_batch_records
        with hand.changed:
            if not hand.changed.wait_for(hand.has_pending, LOOK_AGAIN_S):
                return ()
            hand.changed.wait_for(
                lambda: (
                    hand.pending_records() >= limit
                    or self._of.background.stopping.is_set()
                    or self._idle_member()
                ),
                self._of.settings.max_batch_wait_s,
            )
            self._in_flight = True
            parts = hand.take(limit)
            self._in_flight = bool(parts)
            return parts

    def finds_leader(self) -> bool:
        """Whether somebody leads who hears this member; looks at most every `STAY_KNOWN_EVERY_S`. From one thread."""
        self._stay_known()
        return self._finder.linked

    def _stay_known(self) -> None:
        """A member without records is told of orphan commits and released doubts too: it looks for the leader when its
        stream broke. Without one it goes on."""
        now = self._of.clock.now()
        if self._finder.linked or now < self._known_at:
            return
        self._known_at = now + STAY_KNOWN_EVERY_S
        with self._asking:
            try:
                self._finder.link(())
            except (NotLeading, Unavailable):
                self._finder.drop()

    def _idle_member(self) -> bool:
        """Nobody works and the log's end is reached: waiting for more records would only delay these."""
        return self._voted.empty() and self._hand.at_end()

    def _put(self, voted: VotedBatch) -> None:
        while not self._of.background.stopping.is_set():
            try:
                self._voted.put(voted, timeout=LOOK_AGAIN_S)
                return
            except queue.Full:
                continue

    # -- any thread

    def ask(self, parts: tuple[HeldPart, ...]) -> VotedBatch:
        """Votes for these records, from whichever leader answers; `NoLeader` after `leader_timeout_s` without any."""
        ballot = Ballot(
            self._of.life, ballot_parts(self._of.cluster_id, Batch(tuple(p.batch for p in parts)))
        )
        with self._asking:
            answer = self._from_a_leader(lambda: self._finder.link(ballot.parts).vote(ballot))
        for vote, n in count_votes(answer.votes).items():
            self._of.summary.count(
                {Vote.FRESH: "fresh", Vote.SETTLED: "settled", Vote.DOUBTFUL: "doubtful"}[vote], n
            )
        return VotedBatch(parts, answer)

    def epoch(self) -> int:
        """The epoch of whoever leads now: hello is said anew."""
        with self._asking:
            self._finder.drop()
            self._from_a_leader(lambda: self._finder.link(()))
            return self._finder.epoch

    def _from_a_leader(self, ask: Callable[[], T]) -> T:
        since = said = self._of.clock.now()
        while True:
            try:
                return ask()
            except (NotLeading, Unavailable) as reason:
                self._finder.drop()
                now = self._of.clock.now()
                if now - since > self._leader_timeout_s:
                    raise NoLeader(
                        f"none answered for {self._leader_timeout_s:.0f} s; last: {reason}"
                    ) from reason
                if now - said > SAY_AGAIN_S or said == since:
                    log.warning("%s waits for a leader: %s", self._of.life.slot, reason)
                    said = now
            self._of.background.pause(LOOK_AGAIN_S)

    # -- the member's own thread

    def next(self, timeout_s: float) -> VotedBatch | None:
        try:
            return self._voted.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def idle(self) -> bool:
        return not self._in_flight and self._voted.empty()  # in this order: a put precedes the flag

    def notices(self) -> Sequence[Notice]:
        return self._finder.notices()

    def close(self) -> None:
        self._finder.drop()
