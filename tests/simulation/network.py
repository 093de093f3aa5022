"""The channel between simulated processes: the adapter in memory, with each call carried to the process that serves it.

A call runs in a task of the serving process, so that its crash or freeze is not the caller's, and the other way round. What a
caller hears may be nothing, whatever was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulation.faults import Fate
from simulation.kernel import Process
from simulation.points import Points
from simulation.threads import Event

from airflow_kafka_exactly.adapters.memory.channel import (
    MemoryChannel,
    MemoryLink,
    MemoryNetwork,
    MemoryServer,
)
from airflow_kafka_exactly.errors import KafkaExactlyError, Unavailable
from airflow_kafka_exactly.ports import FilterSnapshot, LeaderHandler, LeaderLink, StandbyHandler
from airflow_kafka_exactly.ports.channel import never
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.settings import ChannelSettings

LOOK_S = 0.5


class Network:
    """Who serves at which address, and how a call gets there."""

    def __init__(self, points: Points, settings: ChannelSettings) -> None:
        self.points, self.settings = points, settings
        self.memory = MemoryNetwork()
        self.serving: dict[int, Process] = {}
        self.links: list[tuple[Process, Process, Any]] = []
        """(client, server, link): hung up when one of them is gone for longer than the keepalive."""

    def server(self, process: Process) -> MemoryServer:
        made = MemoryServer(self.memory, self.settings)
        self.serving[id(made)] = process
        return made

    def call(
        self,
        caller: Process,
        server: Process,
        what: str,
        run: Callable[[], Any],
        given_up: Callable[[], bool] = never,
    ) -> Any:
        faults, kernel = self.points.faults, self.points.kernel
        fate = faults.fate(caller, what)
        kernel.park(0.001 + 0.01 * kernel.chance.random())
        self.points.trace(
            caller.name, f"{what} → {server.name}" + ("" if fate is Fate.NONE else f": {fate.name.lower()}")
        )
        self.points._stop(caller, fate, Fate.CRASH_BEFORE, Fate.FREEZE_BEFORE, what)
        heard, answer = Event(), list[Any]()

        def serve() -> None:
            try:
                answer.append((True, run()))
            except KafkaExactlyError as error:
                answer.append((False, error))
            kernel.park(1.0 if fate is Fate.SLOW else 0.001 + 0.01 * kernel.chance.random())
            if fate is not Fate.ANSWER_LOST and faults.connected(caller.name, server.name):
                heard.set()

        if fate is not Fate.LOST and server.alive and faults.connected(caller.name, server.name):
            if fate is Fate.LATE:
                kernel.at(
                    kernel.chance.uniform(0.05, 4.0),
                    lambda: server.alive and kernel.spawn(server, what, serve),
                )
            else:
                kernel.spawn(server, what, serve)
                if fate is Fate.REPEATED:
                    kernel.at(
                        kernel.chance.uniform(0.05, 4.0),
                        lambda: server.alive and kernel.spawn(server, what, serve),
                    )
        end = kernel.now + self.settings.call_timeout_s
        while not heard.wait(min(LOOK_S, end - kernel.now)):
            if kernel.now >= end or given_up():
                raise Unavailable("the leader", "simulated", f"{server.name} did not answer {what}")
        self.points._stop(caller, fate, Fate.CRASH_AFTER, Fate.FREEZE_AFTER, what)
        done, result = answer[0]
        if done:
            return result
        raise result

    def watch(self) -> None:
        """Keepalives: hang up links whose other end is not heard. Call it once."""
        faults, kernel = self.points.faults, self.points.kernel
        left = []
        for client, server, link in self.links:
            heard = client.alive and server.alive and faults.connected(client.name, server.name)
            if heard and not client.frozen and not server.frozen:
                left.append((client, server, link))
            else:  # each end finds out by itself: a frozen server tells nobody
                link.break_off()
                if server.alive:
                    kernel.spawn(server, "stream broke", link.forgotten)
        self.links = left
        kernel.at(2 * self.settings.keepalive_s, self.watch)


class SimulatedLink(MemoryLink):
    def __init__(
        self,
        network: Network,
        caller: Process,
        server: MemoryServer,
        life: Life,
        given_up: Callable[[], bool],
    ) -> None:
        self._network, self._caller, self._given_up = network, caller, given_up
        self._at = network.serving[id(server)]
        super().__init__(server, life)
        network.links.append((caller, self._at, self))

    def _ask(self, question: Callable[[LeaderHandler], Any]) -> Any:
        if self._why is not None:
            raise self._why
        ask = super()._ask
        what = "channel." + next(
            (n for n in ("hello", "vote", "drop") if n in question.__code__.co_names), "ask"
        )
        try:
            return self._network.call(self._caller, self._at, what, lambda: ask(question), self._given_up)
        except Unavailable as error:
            self._why = self._why or error
            raise

    def close(self) -> None:
        if self._at.alive:
            self._network.points.kernel.spawn(self._at, "hang up", self.hang_up)

    def forgotten(self) -> None:
        self._server.leave(self._life, self)

    def break_off(self) -> None:
        self._why = self._why or Unavailable("the leader", "simulated", "the stream broke")


class SimulatedChannel(MemoryChannel):
    def __init__(self, network: Network, caller: Process) -> None:
        super().__init__(network.memory, network.settings)
        self._net, self._caller = network, caller

    def link(self, address: str, life: Life, given_up: Callable[[], bool] = never) -> LeaderLink:
        server, net, caller = self._server(address), self._net, self._caller
        at = net.serving[id(server)]

        def made() -> LeaderLink:
            return SimulatedLink(net, caller, server, life, given_up)

        link: LeaderLink = net.call(caller, at, "channel.link", made, given_up)
        return link

    def follow(self, address: str, standby: str, handler: StandbyHandler, stop: Callable[[], bool]) -> None:
        server, net, caller = self._server(address), self._net, self._caller
        at = net.serving[id(server)]
        stream, snapshots = net.call(caller, at, "channel.follow", lambda: server.join(standby))
        remote = _Remote(handler, net, caller, at)
        try:
            remote.load(snapshots)
            server.caught_up(stream)
            held = {s.group_id: s.sequence for s in snapshots}
            while not (stop() or stream.over.is_set()):
                if not at.alive or not net.points.faults.connected(caller.name, at.name):
                    return
                self._add(stream, remote, held)
                server.caught_up(stream)
        finally:
            server.quit(standby, stream)

    def collect(self, address: str) -> Sequence[FilterSnapshot]:
        server = self._server(address)
        at = self._net.serving[id(server)]
        found: Sequence[FilterSnapshot] = self._net.call(
            self._caller, at, "channel.collect", lambda: server.led().snapshots()
        )
        return found


class _Remote:
    """A standby's handler: what reaches it takes a while."""

    def __init__(self, handler: StandbyHandler, network: Network, caller: Process, at: Process) -> None:
        self._handler, self._network, self._caller, self._at = handler, network, caller, at

    def load(self, snapshots: Sequence[FilterSnapshot]) -> None:
        self._network.points.kernel.park(0.01 * self._network.points.kernel.chance.random())
        self._network.points.trace(self._caller.name, f"follows {self._at.name}")
        self._handler.load(snapshots)

    def add(self, addition: Any) -> Sequence[bool]:
        self._network.points.kernel.park(0.005 * self._network.points.kernel.chance.random())
        return self._handler.add(addition)
