"""Election and directory within one process: no sessions and no clock, so tests say what happens and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from airflow_kafka_exactly.errors import Unavailable


class MemoryZooKeeper:
    """What contenders and members share. `expire` ends a contender's session; `suspend` cuts it off, so that it cannot trust
    itself any more while its node is still there; `down` lets every question fail."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._contenders: list[MemoryElection] = []
        self._members: dict[str, MemoryDirectory] = {}
        self._down = False

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._changed(lambda: setattr(self, "_down", down))

    def suspend(self, address: str) -> None:
        self._changed(lambda: self._contender(address).cut(True))

    def resume(self, address: str) -> None:
        self._changed(lambda: self._contender(address).cut(False))

    def expire(self, address: str) -> None:
        """The contender enters again at once, as the last one."""
        with self._lock:
            contender = self._contender(address)

            def to_the_end() -> None:
                contender.cut(False)
                self._contenders.remove(contender)
                self._contenders.append(contender)

            self._changed(to_the_end)

    def enter(self, contender: MemoryElection) -> None:
        self.ask()
        self._changed(lambda: self._contenders.append(contender))

    def remove(self, contender: MemoryElection) -> None:
        with self._lock:
            if contender in self._contenders:
                self._changed(lambda: self._contenders.remove(contender))

    def addresses(self) -> list[str]:
        self.ask()
        with self._lock:
            return [contender.address for contender in self._contenders]

    def first(self, contender: MemoryElection) -> bool:
        with self._lock:
            return not self._down and self._contenders[:1] == [contender]

    def members(self) -> dict[str, MemoryDirectory]:
        self.ask()
        return self._members

    def ask(self) -> None:
        if self._down:
            raise Unavailable("ZooKeeper", "memory", "it is down")

    def _contender(self, address: str) -> MemoryElection:
        return next(c for c in self._contenders if c.address == address)

    def _changed(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            listeners = [contender.on_change for contender in self._contenders]
        for listener in listeners:
            listener()


class MemoryElection:
    """An `Election`."""

    def __init__(self, zookeeper: MemoryZooKeeper) -> None:
        self._zookeeper = zookeeper
        self._cut = False
        self.address = ""
        self.on_change: Callable[[], None] = lambda: None

    def contend(self, address: str, on_change: Callable[[], None]) -> None:
        self.address, self.on_change = address, on_change
        self._zookeeper.enter(self)

    def leads(self) -> bool:
        return not self._cut and self._zookeeper.first(self)

    def resign(self) -> None:
        self._zookeeper.remove(self)

    def cut(self, cut: bool) -> None:
        self._cut = cut


class MemoryDirectory:
    """A `Directory`."""

    def __init__(self, zookeeper: MemoryZooKeeper) -> None:
        self._zookeeper = zookeeper

    def leader_address(self) -> str | None:
        return next(iter(self._zookeeper.addresses()), None)

    def contenders(self) -> Sequence[str]:
        return self._zookeeper.addresses()

    def enter(self, name: str) -> None:
        """The latest holder of a name is the one who may take it away."""
        self._zookeeper.members()[name] = self

    def leave(self, name: str) -> None:
        members = self._zookeeper.members()
        if members.get(name) is self:
            del members[name]

    def members(self) -> Sequence[str]:
        return sorted(self._zookeeper.members())

    def close(self) -> None:
        members = self._zookeeper.members()
        for name in [name for name, holder in members.items() if holder is self]:
            del members[name]
