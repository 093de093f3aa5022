"""The channel within one process: the same port, without sockets. Calls run in the caller's thread; a standby's additions
run in the thread that follows. `MemoryNetwork` can take a server off the net, as a crash or a cut cable would.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

from airflow_kafka_exactly.errors import KafkaExactlyError, NotLeading, PeerRefused, Unavailable
from airflow_kafka_exactly.ports import (
    Addition,
    FilterSnapshot,
    LeaderHandler,
    LeaderLink,
    StandbyHandler,
    never,
)
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Dropped, Hello, Notice
from airflow_kafka_exactly.settings import ChannelSettings

T = TypeVar("T")

_LOOK_S = 0.01
_NOTICES = 1000


class MemoryNetwork:
    """Servers by address. `isolate(address)` ends its streams and answers nobody until `rejoin(address)`."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._servers: dict[str, MemoryServer] = {}
        self._isolated: set[str] = set()

    def isolate(self, address: str) -> None:
        self._isolated.add(address)
        self._servers[address].dismiss()

    def rejoin(self, address: str) -> None:
        self._isolated.discard(address)

    def add(self, server: MemoryServer) -> str:
        address = f"memory:{next(self._numbers)}"
        self._servers[address] = server
        return address

    def remove(self, address: str) -> None:
        self._servers.pop(address, None)

    def server(self, address: str, settings: ChannelSettings, version: str) -> MemoryServer:
        server = self._servers.get(address)
        if server is None or address in self._isolated:
            raise Unavailable("the leader", settings.connection, f"{address}: nobody answers")
        if settings.secret != server.settings.secret:
            raise PeerRefused(f"{address} has another secret than connection {settings.connection!r}")
        if version != server.version:
            raise PeerRefused(
                f"{address} speaks another version of the protocol: {server.version}, not {version}"
            )
        return server


@dataclass(slots=True, eq=False)
class _Standby:
    additions: queue.Queue[tuple[Addition, Future[Sequence[bool]] | None]] = field(
        default_factory=queue.Queue
    )
    in_sync: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class MemoryServer:
    """A `ChannelServer`."""

    def __init__(self, network: MemoryNetwork, settings: ChannelSettings, version: str = "1") -> None:
        self.settings, self.version = settings, version
        self._network, self._lock = network, threading.Lock()
        self._address = ""
        self._members: dict[Life, MemoryLink] = {}
        self._standbys: dict[str, _Standby] = {}
        self.handler: LeaderHandler | None = None

    def start(self, handler: LeaderHandler) -> str:
        self.handler = handler
        self._address = self._network.add(self)
        return self._address

    def notify(self, notice: Notice) -> None:
        with self._lock:
            links = [link for life, link in self._members.items() if life.group_id == notice.group_id]
        for link in links:
            link.tell(notice)

    def replicate(self, addition: Addition) -> Mapping[str, Sequence[bool]]:
        waiting: dict[str, tuple[_Standby, Future[Sequence[bool]]]] = {}
        with self._lock:
            for name, standby in self._standbys.items():
                known: Future[Sequence[bool]] | None = Future() if standby.in_sync else None
                standby.additions.put((addition, known))
                if known is not None:
                    waiting[name] = (standby, known)
        done, _ = wait([k for _, k in waiting.values()], self.settings.standby_ack_timeout_s)
        for name, (standby, known) in waiting.items():
            if known not in done:
                self._end_standby(name, standby)
        return {name: known.result() for name, (_, known) in waiting.items() if known in done}

    def dismiss(self) -> None:
        with self._lock:
            links, standbys = list(self._members.values()), list(self._standbys.items())
        for link in links:
            link.hang_up()
        for name, standby in standbys:
            self._end_standby(name, standby)

    def stop(self) -> None:
        self._network.remove(self._address)
        self.handler = None
        self.dismiss()

    # -- what the client's side calls

    def led(self) -> LeaderHandler:
        if self.handler is None:
            raise Unavailable("the leader", self.settings.connection, f"{self._address}: stopped")
        return self.handler

    def attend(self, life: Life, link: MemoryLink) -> None:
        with self._lock:
            older = self._members.get(life)
            self._members[life] = link
        if older is not None:
            older.hang_up()

    def leave(self, life: Life, link: MemoryLink) -> None:
        with self._lock:
            gone = self._members.get(life) is link
            if gone:
                del self._members[life]
        if gone and self.handler is not None:
            self.handler.member_gone(life)

    def join(self, name: str) -> tuple[_Standby, Sequence[FilterSnapshot]]:
        """Registered before its snapshots are taken, or an addition in between would reach neither."""
        standby, handler = _Standby(), self.led()
        with self._lock:
            older = self._standbys.get(name)
            self._standbys[name] = standby
        if older is not None:
            older.over.set()
        try:
            return standby, handler.follow(name)
        except KafkaExactlyError:
            self._end_standby(name, standby)
            raise

    def caught_up(self, standby: _Standby) -> None:
        with self._lock:
            standby.in_sync = standby.in_sync or standby.additions.empty()

    def quit(self, name: str, standby: _Standby) -> None:
        self._end_standby(name, standby)

    def _end_standby(self, name: str, standby: _Standby) -> None:
        standby.over.set()
        with self._lock:
            gone = self._standbys.get(name) is standby
            if gone:
                del self._standbys[name]
        if gone and self.handler is not None:
            self.handler.standby_gone(name)


class MemoryLink:
    """A `LeaderLink`."""

    def __init__(self, server: MemoryServer, life: Life) -> None:
        self._server, self._life = server, life
        self._why: KafkaExactlyError | None = None
        self._notices: deque[Notice] = deque(maxlen=_NOTICES)
        server.attend(life, self)

    @property
    def alive(self) -> bool:
        return self._why is None

    def hello(self, hello: Hello) -> int:
        return self._ask(lambda h: h.hello(hello))

    def vote(self, ballot: Ballot) -> BallotAnswer:
        return self._ask(lambda h: h.vote(ballot))

    def drop(self, dropped: Dropped) -> None:
        self._ask(lambda h: h.drop(dropped))

    def notices(self) -> Sequence[Notice]:
        return [self._notices.popleft() for _ in range(len(self._notices))]

    def close(self) -> None:
        self.hang_up()

    def tell(self, notice: Notice) -> None:
        self._notices.append(notice)

    def hang_up(self) -> None:
        if self._why is None:
            self._why = Unavailable("the leader", self._server.settings.connection, "it hung up")
            self._server.leave(self._life, self)

    def _ask(self, question: Callable[[LeaderHandler], T]) -> T:
        if self._why is not None:
            raise self._why
        try:
            return question(self._server.led())
        except NotLeading as error:
            self._why = error
            self._server.leave(self._life, self)
            raise


class MemoryChannel:
    """A `Channel`."""

    def __init__(self, network: MemoryNetwork, settings: ChannelSettings, version: str = "1") -> None:
        self._network, self._settings, self._version = network, settings, version

    def link(self, address: str, life: Life, given_up: Callable[[], bool] = never) -> LeaderLink:  # noqa: ARG002 - it answers at once
        return MemoryLink(self._server(address), life)

    def follow(self, address: str, standby: str, handler: StandbyHandler, stop: Callable[[], bool]) -> None:
        server = self._server(address)
        stream, snapshots = server.join(standby)
        try:
            handler.load(snapshots)
            server.caught_up(stream)
            held = {s.group_id: s.sequence for s in snapshots}
            while not (stop() or stream.over.is_set()):
                self._add(stream, handler, held)
                server.caught_up(stream)
        finally:
            server.quit(standby, stream)

    def collect(self, address: str) -> Sequence[FilterSnapshot]:
        return self._server(address).led().snapshots()

    def _add(self, stream: _Standby, handler: StandbyHandler, held: Mapping[str, int]) -> None:
        try:
            addition, known = stream.additions.get(timeout=_LOOK_S)
        except queue.Empty:
            return
        if addition.sequence > held.get(addition.group_id, -1):
            answer = handler.add(addition)
            if known is not None:
                known.set_result(answer)

    def _server(self, address: str) -> MemoryServer:
        return self._network.server(address, self._settings, self._version)
