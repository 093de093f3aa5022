"""Contenders for leadership in threads on memory adapters, a ledger that says what a test wants, and a Kafka admin of numbers."""

# ruff: noqa: ARG002 - the ports' arguments, which a script does not need

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from airflow_kafka_exactly.adapters.guard import BootClock
from airflow_kafka_exactly.adapters.memory.channel import MemoryChannel, MemoryNetwork, MemoryServer
from airflow_kafka_exactly.adapters.memory.election import MemoryDirectory, MemoryElection, MemoryZooKeeper
from airflow_kafka_exactly.errors import StaleEpoch, Unavailable
from airflow_kafka_exactly.ports import KafkaAdmin, KnownIds, LeaderLink, OverdueLife, TopicFacts
from airflow_kafka_exactly.protocol.claims import Life, OrphanCommit, OrphanState
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import Ballot, BallotPart, Fact, Hello, Offsets
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.settings import (
    ChannelSettings,
    ElectionSettings,
    FilterSettings,
    LeaseSettings,
    LedgerSettings,
    ServiceSettings,
)

P0 = Partition("id", 0, "t")
GROUP = "g"


def eventually(what: str, condition: Callable[[], Any], deadline_s: float = 20.0) -> Any:
    """Wait for a condition, never for a time; says what it waited for."""
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"after {deadline_s:.0f} s still not: {what}"
        time.sleep(0.01)


def life(slot: str = "a", incarnation: int = 1, group: str = GROUP) -> Life:
    return Life(group_id=group, slot=slot, incarnation=incarnation)


def part(start: int, stop: int, partition: Partition = P0) -> BallotPart:
    offsets = OffsetRange(start, stop)
    return BallotPart(partition, offsets, np.arange(start, stop), range_digests("c", partition, offsets))


def orphan(number: int = 1, start: int = 10, stop: int = 20) -> OrphanCommit:
    return OrphanCommit(
        orphan_id=number,
        group_id=GROUP,
        partition=P0,
        range=OffsetRange(start, stop),
        reason="refused",
        state=OrphanState.OPEN,
    )


@dataclass
class ScriptedLedger:
    """A `LeaderLedger`. `down` lets every question fail; `calls` remembers their order."""

    down: bool = False
    epoch: int = 0
    known: dict[str, list[tuple[Partition, OffsetRange]]] = field(default_factory=dict)
    facts_of: dict[int, Fact] = field(default_factory=dict)
    late: list[Life] = field(default_factory=list)
    fenced: list[Life] = field(default_factory=list)
    closed: list[Life] = field(default_factory=list)
    released: int = 0
    frontiers: dict[Partition, int] = field(default_factory=dict)
    orphans: dict[int, OrphanCommit] = field(default_factory=dict)
    drained: dict[int, OrphanState] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    while_loading: Callable[[], None] = lambda: None
    poisoned: dict[str, Exception] = field(default_factory=dict)
    """What goes wrong for a slot or a group, whatever is asked about it."""

    def raise_epoch(self, leader: str) -> int:
        self._ask("raise_epoch")
        self.epoch += 1
        return self.epoch

    def kafka_connection(self, group_id: str) -> str:
        return f"connection of {group_id}"

    def without_payload(self, group_id: str) -> Sequence[Partition]:
        """No doubt of these tests lacks its payload."""
        self._ask("without_payload")
        return ()

    def groups(self) -> Sequence[str]:
        self._ask("groups")
        return sorted(self.known)

    def load(self, group_id: str) -> KnownIds:
        self._ask("load")
        self.while_loading()
        return KnownIds("c", list(self.known.get(group_id, [])))

    def facts(self, group_id: str, partition: Partition, offsets: Offsets) -> Sequence[Fact]:
        self._ask("facts")
        return [self.facts_of.get(offset, Fact.UNKNOWN) for offset in offsets.tolist()]

    def progress(self, group_id: str) -> Mapping[Partition, int]:
        self._ask("progress")
        return dict(self.frontiers)

    def released_count(self, group_id: str) -> int:
        self._ask("released_count")
        self._poison(group_id)
        return self.released

    def over(self, lives: Sequence[Life]) -> Sequence[Life]:
        self._ask("over")
        return [life for life in lives if life in self.closed]

    def overdue(self) -> Sequence[OverdueLife]:
        self._ask("overdue")
        return [OverdueLife(life, 1.0) for life in self.late]

    def fence(self, epoch: int, life: Life) -> bool:
        self._write("fence", epoch)
        self._poison(life.slot)
        self.late.remove(life)
        self.fenced.append(life)
        return True

    def sweep_orphans(self, epoch: int) -> Sequence[OrphanCommit]:
        self._write("sweep_orphans", epoch)
        return list(self.orphans.values())

    def read_back(
        self, epoch: int, group_id: str, offsets: Mapping[Partition, int]
    ) -> Sequence[OrphanCommit]:
        self._write("read_back", epoch)
        return []

    def close_orphan(self, epoch: int, orphan_id: int, state: OrphanState) -> bool:
        self._write("close_orphan", epoch)
        del self.orphans[orphan_id]
        self.drained[orphan_id] = state
        return True

    def _ask(self, call: str) -> None:
        if self.down:
            raise Unavailable("PostgreSQL", "scripted", "it is down")
        self.calls.append(call)

    def _poison(self, name: str) -> None:
        if name in self.poisoned:
            raise self.poisoned[name]

    def _write(self, call: str, epoch: int) -> None:
        self._ask(call)
        if epoch != self.epoch:
            raise StaleEpoch(f"{epoch} is not {self.epoch}")


@dataclass
class ScriptedAdmin:
    """A `KafkaAdmin` of one group and one topic."""

    offsets: dict[Partition, int] = field(default_factory=dict)
    empty: bool = True
    down: bool = False
    altered: list[Mapping[Partition, int]] = field(default_factory=list)

    def cluster_id(self) -> str:
        return "c"

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        return {name: TopicFacts(name, "id", 1) for name in names}

    def end_offsets(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        return {}

    def instances(self, group_id: str) -> tuple[str, ...]:
        return () if self.empty else ("dag.task",)

    def committed(self, group_id: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        if self.down:
            raise Unavailable("Kafka", "scripted", "it is down")
        return dict(self.offsets)

    def alter(self, group_id: str, offsets: Mapping[Partition, int]) -> Mapping[Partition, bool]:
        if self.empty:
            self.altered.append(offsets)
            self.offsets.update(offsets)
        return dict.fromkeys(offsets, self.empty)


class Contenders:
    """What contenders share, and the contenders themselves, in the order in which they entered."""

    def __init__(self, ledger: ScriptedLedger | None = None, fence_grace_s: float = 0.0) -> None:
        self.ledger = ledger or ScriptedLedger()
        self.zookeeper, self.network = MemoryZooKeeper(), MemoryNetwork()
        self.settings = ServiceSettings(
            ledger=LedgerSettings(connection="ledger", conninfo=""),
            election=ElectionSettings(connection="zookeeper", hosts="memory"),
            channel=ChannelSettings(connection="channel", secret="a secret of sixteen"),
            lease=LeaseSettings(fence_grace_s=fence_grace_s),
            filter=FilterSettings(capacity=20_000, error_rate=0.0001),
        )
        self.all: list[Coordinator] = []

    def add(self, admins: Callable[[str], KafkaAdmin | None] = lambda _: None) -> Coordinator:
        """Start one more contender, and wait until it has entered."""
        made = self.make(admins)
        made.start()
        eventually(
            "it has entered",
            lambda: self.zookeeper.down or made.state().address in self.zookeeper.addresses(),
        )
        return made

    def make(self, admins: Callable[[str], KafkaAdmin | None] = lambda _: None) -> Coordinator:
        made = Coordinator(
            election=MemoryElection(self.zookeeper),
            directory=MemoryDirectory(self.zookeeper),
            server=MemoryServer(self.network, self.settings.channel),
            channel=MemoryChannel(self.network, self.settings.channel),
            ledger=self.ledger,
            admins=admins,
            clock=BootClock(),
            settings=self.settings,
        )
        self.all.append(made)
        return made

    def leader(self) -> Coordinator:
        """Waits for one."""
        found: Coordinator = eventually(
            "somebody leads", lambda: next((c for c in self.all if c.state().leads), None)
        )
        return found

    def link(self, coordinator: Coordinator, who: Life) -> LeaderLink:
        """A member's link, hello said."""
        link = MemoryChannel(self.network, self.settings.channel).link(coordinator.state().address, who)
        link.hello(Hello(who, "c"))
        return link

    def follows(self, coordinator: Coordinator) -> None:
        eventually("it follows", lambda: coordinator.state().follows)

    def stop(self) -> None:
        for contender in self.all:
            contender.stop()


def votes(link: LeaderLink, who: Life, *parts: BallotPart) -> list[int]:
    return [vote for part_votes in link.vote(Ballot(who, parts)).votes for vote in part_votes.tolist()]


def threads_of_coordinators() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("kafka-exactly-")]
