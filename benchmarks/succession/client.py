"""A client that votes on and on, the way a member does, and remembers when a vote was accepted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from airflow_kafka_exactly.errors import NotLeading, Unavailable
from airflow_kafka_exactly.ports import Channel, Directory, MemberLedger
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.votes import Ballot
from airflow_kafka_exactly.runtime.voting import LOOK_AGAIN_S, LeaderFinder
from succession.asking import Asker
from succession.known import KnownIds, count_fresh
from succession.plan import CLUSTER
from succession.ring import eventually

EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Accepted:
    """A vote whose claim the ledger granted."""

    epoch: int
    at: float
    """`time.monotonic()` when the claim was granted."""
    sampled: int
    """Known ids in the same ballot (the first one of an epoch)…"""
    fresh: int
    """…and how many of them were called fresh."""


@dataclass(frozen=True, slots=True)
class _Member:
    """What a `LeaderFinder` wants to know of its member."""

    life: Life
    cluster_id: str


class Client:
    """Runs in a thread between `start` and `stop`."""

    def __init__(self, ledger: MemberLedger, directory: Directory, channel: Channel) -> None:
        self.known: KnownIds | None = None
        """Sampled in each first ballot of an epoch once it is set."""
        self._asker = Asker(ledger, "client")
        member = _Member(self._asker.life, CLUSTER)
        self._finder = LeaderFinder(directory, channel, member)  # type: ignore[arg-type]
        self._firsts: list[Accepted] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30.0)
        self._finder.drop()

    def first_after(self, epoch: int) -> Accepted:
        """Waits for the first accepted vote of a later epoch than this."""
        return eventually(f"a vote after epoch {epoch} is accepted", lambda: self._first_after(epoch))

    @property
    def epoch(self) -> int:
        """Of the last accepted vote."""
        return self._firsts[-1].epoch if self._firsts else 0

    def _first_after(self, epoch: int) -> Accepted | None:
        if self._failure is not None:
            raise self._failure
        return next((first for first in self._firsts if first.epoch > epoch), None)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._stopping.wait(EVERY_S if self._vote() else LOOK_AGAIN_S)
        except BaseException as failure:  # noqa: BLE001 - raised where somebody waits for a vote
            self._failure = failure

    def _vote(self) -> bool:
        """One ballot, from whichever leader answers. False: look again in a moment, like a member."""
        part = self._asker.part
        try:
            link = self._finder.link((part,))
            news = self._finder.epoch != self.epoch
            sample = self.known.sample() if news and self.known is not None else ()
            answer = link.vote(Ballot(self._asker.life, (part, *sample)))
        except (NotLeading, Unavailable):
            self._finder.drop()
            return False
        if not self._asker.claim(answer.epoch):
            self._finder.drop()
            return False
        if answer.epoch != self.epoch:
            sampled = sum(len(p.offsets) for p in sample)
            self._firsts.append(
                Accepted(answer.epoch, time.monotonic(), sampled, count_fresh(answer, skip=1))
            )
        return True
