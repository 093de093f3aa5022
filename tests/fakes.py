"""What the other side of a port does in tests: it writes down what it is asked and answers as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from airflow_kafka_exactly.ports import Addition, FilterSnapshot
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotAnswer,
    BallotPart,
    Digests,
    Dropped,
    Hello,
    Vote,
)


def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.005)


def digests(count: int, seed: int = 0) -> Digests:
    return np.random.default_rng(seed).integers(0, 2**64, size=(count, 2), dtype=np.uint64)


def ballot(life: Life, *counts: int) -> Ballot:
    """A ballot with one partition for each count."""
    parts = tuple(
        BallotPart(
            Partition("topic-id", number, "payments"),
            OffsetRange(10, 10 + 2 * count),
            np.arange(10, 10 + 2 * count, 2, dtype=np.int64),
            digests(count, number),
        )
        for number, count in enumerate(counts)
    )
    return Ballot(life, parts)


class FakeLeader:
    """A `LeaderHandler`. `error` is raised by every question while it is set."""

    def __init__(self, epoch: int = 7) -> None:
        self.epoch = epoch
        self.error: Exception | None = None
        self.filters: Sequence[FilterSnapshot] = ()
        self.hellos: list[Hello] = []
        self.ballots: list[Ballot] = []
        self.dropped: list[Dropped] = []
        self.gone: list[Life] = []
        self.followers: list[str] = []
        self.lost_followers: list[str] = []
        self.on_follow: Callable[[], None] = lambda: None

    def hello(self, hello: Hello) -> int:
        self._fail()
        self.hellos.append(hello)
        return self.epoch

    def vote(self, ballot: Ballot) -> BallotAnswer:
        """The record's place modulo three is its vote."""
        self._fail()
        self.ballots.append(ballot)
        votes = tuple((np.arange(len(p.offsets)) % len(Vote)).astype(np.uint8) for p in ballot.parts)
        return BallotAnswer(self.epoch, votes)

    def drop(self, dropped: Dropped) -> None:
        self._fail()
        self.dropped.append(dropped)

    def member_gone(self, life: Life) -> None:
        self.gone.append(life)

    def follow(self, standby: str) -> Sequence[FilterSnapshot]:
        self._fail()
        self.followers.append(standby)
        filters = self.filters
        self.on_follow()
        return filters

    def standby_gone(self, standby: str) -> None:
        self.lost_followers.append(standby)

    def snapshots(self) -> Sequence[FilterSnapshot]:
        return self.filters

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class FakeStandby:
    """A `StandbyHandler`. It says that it knew the ids whose first half is even; it does not answer while `free` is clear."""

    def __init__(self) -> None:
        self.loaded: list[Sequence[FilterSnapshot]] = []
        self.additions: list[Addition] = []
        self.free = threading.Event()
        self.free.set()

    def load(self, snapshots: Sequence[FilterSnapshot]) -> None:
        self.loaded.append(snapshots)

    def add(self, addition: Addition) -> Sequence[bool]:
        assert self.free.wait(30)
        self.additions.append(addition)
        return self.knows(addition.digests)

    @staticmethod
    def knows(ids: Digests) -> list[bool]:
        return [bool(first % 2 == 0) for first in ids[:, 0]]
