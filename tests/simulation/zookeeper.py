"""ZooKeeper with sessions in virtual time: what `Election` and `Directory` ask, and what a cut or a freeze does to it.

A session lives as long as its client is heard: a process that is dead, frozen or cut off for `session_timeout_s` loses its
node. A contender trusts itself for `trust_s` from the sending of its last successful look, like the real adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulation.kernel import Process
from simulation.points import Points

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.settings import ElectionSettings

HEARTBEAT_S = 1.0


class SimulatedZooKeeper:
    def __init__(self, points: Points, settings: ElectionSettings) -> None:
        self.points, self.settings = points, settings
        self.contenders: list[SimulatedElection] = []
        self.members: dict[str, Process] = {}

    def watch(self) -> None:
        """Expire the sessions of clients that were not heard for too long; call it once."""
        now = self.points.kernel.now
        for contender in list(self.contenders):
            process = contender.process
            if self.hears(process):
                contender.heard_at = now
            elif now - contender.heard_at > self.settings.session_timeout_s:
                self.points.trace("zookeeper", f"the session of {process.name} expires")
                self.remove(contender)
        self.points.kernel.at(HEARTBEAT_S, self.watch)

    def hears(self, process: Process) -> bool:
        return (
            process.alive and not process.frozen and self.points.faults.connected(process.name, "zookeeper")
        )

    def expire(self, contender: SimulatedElection) -> None:
        """Its client finds out, and enters again, as the last one."""
        contender.disturbed()
        self.remove(contender)
        if contender.process.alive:
            self.contenders.append(contender)
            contender.heard_at = self.points.kernel.now

    def remove(self, contender: SimulatedElection) -> None:
        if contender in self.contenders:
            self.contenders.remove(contender)
            self.tell()

    def tell(self) -> None:
        for contender in self.contenders:
            if self.hears(contender.process):
                contender.on_change()

    def ask(self, process: Process) -> None:
        if not self.points.faults.connected(process.name, "zookeeper"):
            raise Unavailable("ZooKeeper", "simulated", "no connection")


class SimulatedElection:
    def __init__(self, zookeeper: SimulatedZooKeeper, process: Process) -> None:
        self._zookeeper, self.process = zookeeper, process
        self.address, self.heard_at = "", zookeeper.points.kernel.now
        self.on_change: Callable[[], None] = lambda: None
        self._wants, self._first, self._proven_at = False, False, float("-inf")
        self._disturbances = 0

    def contend(self, address: str, on_change: Callable[[], None]) -> None:
        self.address, self.on_change, self._wants = address, on_change, True
        self._reach("enter", self._enter)

    def leads(self) -> bool:
        """A look costs no step while less than half of the trust window is used up."""
        zookeeper, now = self._zookeeper, self.process.now()
        trust_s = zookeeper.settings.trust_s
        if not self._wants or not zookeeper.points.faults.connected(self.process.name, "zookeeper"):
            return False  # SUSPENDED: stand down at once
        if now - self._proven_at > trust_s / 2:
            disturbances = self._disturbances
            try:
                first = self._reach("look", self._look)
            except Unavailable:
                pass
            else:
                if disturbances == self._disturbances:  # else the answer came through a session that is over
                    self._first, self._proven_at = first, now
        return self._first and self.process.now() - self._proven_at < trust_s

    def resign(self) -> None:
        self._wants = self._first = False
        self._zookeeper.remove(self)

    def disturbed(self) -> None:
        self._first, self._proven_at = False, float("-inf")
        self._disturbances += 1
        self.on_change()

    def _look(self) -> bool:
        if self not in self._zookeeper.contenders:
            self._enter()
        return self._zookeeper.contenders[0] is self

    def _enter(self) -> None:
        if self not in self._zookeeper.contenders:
            self.heard_at = self._zookeeper.points.kernel.now
            self._zookeeper.contenders.append(self)
            self._zookeeper.tell()

    def _reach(self, what: str, call: Callable[[], bool | None]) -> bool:
        self._zookeeper.ask(self.process)
        return bool(self._zookeeper.points.reach(self.process, "zookeeper", f"zookeeper.{what}", call))


class SimulatedDirectory:
    def __init__(self, zookeeper: SimulatedZooKeeper, process: Process) -> None:
        self._zookeeper, self._process = zookeeper, process

    def leader_address(self) -> str | None:
        return next(iter(self.contenders()), None)

    def contenders(self) -> Sequence[str]:
        self._zookeeper.ask(self._process)
        found: list[str] = self._zookeeper.points.reach(
            self._process,
            "zookeeper",
            "zookeeper.contenders",
            lambda: [contender.address for contender in self._zookeeper.contenders],
        )
        return found

    def enter(self, name: str) -> None:
        self._zookeeper.ask(self._process)
        self._zookeeper.members[name] = self._process

    def leave(self, name: str) -> None:
        self._zookeeper.ask(self._process)
        self._zookeeper.members.pop(name, None)

    def members(self) -> Sequence[str]:
        return sorted(self._zookeeper.members)

    def close(self) -> None:
        for name in [n for n, p in self._zookeeper.members.items() if p is self._process]:
            del self._zookeeper.members[name]
