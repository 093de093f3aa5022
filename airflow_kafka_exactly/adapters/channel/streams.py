"""The server's open streams: members that are told notices, standbys that are fed additions."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_kafka_exactly.ports import Addition

T = TypeVar("T")

_BACKLOG = 1000
"""Messages that wait for a slow peer; one more ends its stream, and it starts anew."""


class Stream(Generic[T]):
    """One peer's stream: what waits to be sent to it. It is over when the call is, whoever ended that."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._waiting: queue.Queue[T | None] = queue.Queue(_BACKLOG)
        self._over = threading.Event()

    def offer(self, message: T) -> None:
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self.cancel()

    def idle(self) -> bool:
        return self._waiting.empty()

    def messages(self) -> Iterator[T]:
        """Until the stream is over."""
        while not self._over.is_set():
            message = self._waiting.get()
            if message is None:
                return
            yield message

    def cancel(self) -> None:
        self._context.cancel()
        self.end()

    def end(self) -> None:
        """Wakes whoever waits for messages; called when the call is over."""
        self._over.set()
        while True:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                self._drop_one()
            else:
                return

    def _drop_one(self) -> None:
        try:
            self._waiting.get_nowait()
        except queue.Empty:
            return


S = TypeVar("S", bound=Stream[Any])


class Streams(Generic[S]):
    """By peer; a peer's newer stream replaces its older one, whose end is then no news."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_peer: dict[Any, S] = {}

    def add(self, peer: object, stream: S) -> None:
        with self._lock:
            older = self._by_peer.get(peer)
            self._by_peer[peer] = stream
        if older is not None:
            older.cancel()

    def remove(self, peer: object, stream: S) -> bool:
        """Whether the peer is gone now, rather than replaced."""
        with self._lock:
            if self._by_peer.get(peer) is not stream:
                return False
            del self._by_peer[peer]
            return True

    def open(self) -> list[tuple[Any, S]]:
        with self._lock:
            return list(self._by_peer.items())

    def cancel_all(self) -> None:
        for _, stream in self.open():
            stream.cancel()


@dataclass(slots=True)
class Feed:
    """An addition on its way to one standby. `known` is set by its acknowledgement; None when nobody waits for that."""

    addition: Addition
    known: Future[Sequence[bool]] | None = field(default=None)


class StandbyStream(Stream[Feed]):
    """Loading first: additions wait in line behind the snapshots, and nobody waits for them. In sync from when it has caught
    up: then each addition waits for its acknowledgement."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._lock = threading.Lock()
        self.in_sync = False

    def feed(self, addition: Addition) -> Future[Sequence[bool]] | None:
        with self._lock:
            feed = Feed(addition, Future() if self.in_sync else None)
            self.offer(feed)
            return feed.known

    def caught_up(self) -> None:
        """Called when everything that was sent is acknowledged."""
        with self._lock:
            self.in_sync = self.in_sync or self.idle()


class Standbys(Streams[StandbyStream]):
    def replicate(self, addition: Addition, timeout_s: float) -> Mapping[str, Sequence[bool]]:
        """See `ChannelServer.replicate`."""
        sent = {name: (stream, stream.feed(addition)) for name, stream in self.open()}
        waiting = {name: (stream, known) for name, (stream, known) in sent.items() if known is not None}
        wait([known for _, known in waiting.values()], timeout_s)
        answers: dict[str, Sequence[bool]] = {}
        for name, (stream, known) in waiting.items():
            if known.done() and not known.cancelled() and known.exception() is None:
                answers[name] = known.result()
            else:
                stream.cancel()
        return answers
