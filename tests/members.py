"""One ledger, one leader and members in threads, all on the memory adapters and the real clock: no service is needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from fakes import eventually

from airflow_kafka_exactly.adapters.guard import BootClock, NoGuard
from airflow_kafka_exactly.adapters.memory.broker import MemoryBroker
from airflow_kafka_exactly.adapters.memory.channel import MemoryChannel, MemoryNetwork, MemoryServer
from airflow_kafka_exactly.adapters.memory.election import MemoryDirectory, MemoryElection, MemoryZooKeeper
from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.protocol.claims import DoubtState, LifeKind
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.membership import MemberPorts, Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.settings import (
    ChannelSettings,
    ElectionSettings,
    KafkaSettings,
    LeaseSettings,
    LedgerSettings,
    MemberSettings,
    ServiceSettings,
)

GROUP, TOPIC = "group", "topic"


@dataclass(kw_only=True)
class Running:
    membership: Membership
    thread: threading.Thread | None = None
    ending: Ending | None = None
    failure: BaseException | None = None

    def join(self, timeout_s: float = 60.0) -> Running:
        assert self.thread is not None
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), f"the member did not end within {timeout_s:.0f} s"
        return self

    def ended(self) -> Ending | None:
        self.join()
        if self.failure is not None:
            raise self.failure
        return self.ending

    def stop(self) -> None:
        self.membership.background.stopping.set()

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.membership.summary.counts)


@dataclass
class Members:
    """Use as a context manager: a leader leads inside."""

    partitions: int = 1
    member: dict[str, Any] = field(default_factory=dict)
    """Fields of `MemberSettings` that are not as below."""
    session_timeout_s: float = 7.0

    def __post_init__(self) -> None:
        self.broker, self.clock = MemoryBroker(), BootClock()
        self.broker.create_topic(TOPIC, self.partitions)
        self.ledger = MemoryLedger(self.clock)
        self.zookeeper, self.network = MemoryZooKeeper(), MemoryNetwork()
        self.services = ServiceSettings(
            ledger=LedgerSettings(connection="ledger", conninfo=""),
            election=ElectionSettings(connection="zookeeper", hosts="memory"),
            channel=ChannelSettings(connection="channel", secret="a secret of sixteen"),
            lease=LeaseSettings(lease_s=8.0, margin_s=3.0, renew_every_s=1.0, fence_grace_s=0.5),
        )
        self.coordinator = Coordinator(
            election=MemoryElection(self.zookeeper),
            directory=MemoryDirectory(self.zookeeper),
            server=MemoryServer(self.network, self.services.channel),
            channel=MemoryChannel(self.network, self.services.channel),
            ledger=self.ledger.leader,
            admins=lambda _: self.broker.admin(),
            clock=self.clock,
            settings=self.services,
        )

    def __enter__(self) -> Self:
        self.coordinator.start()
        eventually(lambda: self.coordinator.state().leads)
        return self

    def __exit__(self, *_: object) -> None:
        self.coordinator.stop()

    def produce(self, count: int, value: bytes = b"x") -> None:
        for _ in range(count):
            self.broker.produce(TOPIC, value)

    def settings(self, slot: str) -> MemberSettings:
        kafka = KafkaSettings(
            connection="kafka",
            config={},
            group_id=GROUP,
            topics=(TOPIC,),
            session_timeout_s=self.session_timeout_s,
        )
        given = {"max_batch_wait_s": 0.05, "effect_timeout_s": 0.0, "max_batch_records": 100, **self.member}
        return MemberSettings(slot=slot, owner=slot, kafka=kafka, lease=self.services.lease, **given)

    def membership(self, slot: str = "a", kind: LifeKind = LifeKind.WORKER) -> Membership:
        settings = self.settings(slot)
        ports = MemberPorts(
            ledger=self.ledger.member,
            consumers=self.broker.consumers(settings.kafka),
            admin=self.broker.admin(),
            directory=MemoryDirectory(self.zookeeper),
            channel=MemoryChannel(self.network, self.services.channel),
            clock=self.clock,
            guard=NoGuard(),
        )
        return Membership(ports, settings, kind, Summary())

    def start(self, function: UserFunction, until: Until, slot: str = "a") -> Running:
        running = Running(membership=self.membership(slot))

        def work() -> None:
            try:
                with running.membership as membership:
                    running.ending = Member(membership, function, until).run()
            except BaseException as failure:  # noqa: BLE001 - the test looks at it
                running.failure = failure

        running.thread = threading.Thread(target=work, daemon=True)
        running.thread.start()
        return running

    def run(self, function: UserFunction, until: Until | None = None, slot: str = "a") -> Running:
        return self.start(function, until or self.until_end(), slot).join()

    def until_end(self) -> Until:
        return Until(ends=dict(self.broker.admin().end_offsets([TOPIC])), to_end=True)

    # -- what the ledger and Kafka hold

    def places(self) -> Sequence[Any]:
        return list(self.ledger.state.places.values())

    def doubted(self) -> list[int]:
        """Offsets of the records of unclosed doubts."""
        return sorted(
            offset
            for place in self.places()
            for doubt in place.doubts
            if doubt.state is not DoubtState.CLOSED
            for offset in doubt.records
        )

    def dead_letters(self) -> int:
        return sum(len(place.letters) for place in self.places())

    def committed(self, partition: int = 0) -> int:
        found = self.broker.group(GROUP).offsets.get((TOPIC, partition))
        return found.offset if found is not None else 0

    def eventually_committed(self, offset: int) -> None:
        eventually(lambda: self.committed() >= offset)

    def frontier(self) -> int:
        return int(self.places()[0].frontier) if self.places() else 0
