"""One ledger, one election and one topic on real services, and members and coordinators in threads on them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import Producer
from conftest import unique

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.protocol.claims import CheckReference, LifeKind
from airflow_kafka_exactly.protocol.record import Record
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

DEADLINE_S = 60.0


def eventually(what: str, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait for a condition, never for a time; says what it waited for."""
    until = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"after {deadline_s:.0f} s still not: {what}"
        time.sleep(0.05)


class Effects:
    """Where effects go: every call is counted, so that a repeated effect shows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seen: Counter[tuple[int, int]] = Counter()
        self.records: list[Record] = []

    def __call__(self, record: Record) -> None:
        with self._lock:
            self.seen[record.partition, record.offset] += 1
            self.records.append(record)

    def check(self, record: Record) -> bool:
        with self._lock:
            return self.seen[record.partition, record.offset] > 0

    @property
    def repeated(self) -> dict[tuple[int, int], int]:
        return {place: n for place, n in self.seen.items() if n > 1}


@dataclass(kw_only=True)
class Running:
    """A member in a thread of its own."""

    membership: Membership
    thread: threading.Thread
    summary: Summary
    ending: Ending | None = None
    failure: BaseException | None = None

    def join(self, timeout_s: float = DEADLINE_S) -> Running:
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


@dataclass(kw_only=True)
class World:
    kafka: str
    services: ServiceSettings
    topic: str
    group: str = field(default_factory=lambda: unique("group"))
    batch: int = 100
    effect_timeout_s: float = 0.0
    kafka_config: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)
    """Ports of the members that are not the real ones."""
    wrap: Callable[[MemberPorts], MemberPorts] = lambda ports: ports
    """Puts something between a member and its ports; asked anew for each member."""
    leader_timeout_s: float = DEADLINE_S
    member: dict[str, Any] = field(default_factory=dict)
    """Fields of `MemberSettings` that are not as below."""

    @contextlib.contextmanager
    def coordinator(self) -> Iterator[Coordinator]:
        wiring.clusters.know(self.kafka_settings())
        with wiring.coordinator(self.services) as coordinator:
            yield coordinator

    def kafka_settings(self) -> KafkaSettings:
        return KafkaSettings(
            connection="kafka_test",
            config={"bootstrap.servers": self.kafka, **self.kafka_config},
            group_id=self.group,
            topics=(self.topic,),
            session_timeout_s=self.services.lease.lease_s - 1,
        )

    def member_settings(self, slot: str, owner: str = "") -> MemberSettings:
        settings = MemberSettings(
            slot=slot,
            owner=owner or slot,
            kafka=self.kafka_settings(),
            lease=self.services.lease,
            max_batch_records=self.batch,
            max_batch_wait_s=0.05,
            effect_timeout_s=self.effect_timeout_s,
        )
        return replace(settings, **self.member)

    def produce(self, values: Sequence[bytes], partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})
        for value in values:
            producer.produce(self.topic, value, partition=partition)
        assert producer.flush(30) == 0

    def ends(self) -> dict[Any, int]:
        with wiring.member_ports(self.services, self.kafka_settings(), guarded=False) as ports:
            return dict(ports.admin.end_offsets([self.topic]))

    def run(
        self,
        slot: str,
        function: UserFunction,
        until: Until,
        *,
        owner: str = "",
        check: CheckReference | None = None,
    ) -> Running:
        """Start a member; it has opened its life when this returns."""
        opened = threading.Event()
        summary = Summary()

        def work() -> None:
            try:
                settings = self.member_settings(slot, owner)
                with wiring.member_ports(self.services, settings.kafka, guarded=False) as ports:
                    membership = Membership(
                        self.wrap(replace(ports, **self.replaced)),
                        settings,
                        LifeKind.WORKER,
                        summary,
                        check=check,
                        leader_timeout_s=self.leader_timeout_s,
                    )
                    with membership:
                        running.membership = membership
                        opened.set()
                        running.ending = Member(membership, function, until).run()
            except BaseException as failure:  # noqa: BLE001 - the test looks at it
                running.failure = failure
            finally:
                opened.set()

        running = Running(membership=None, thread=threading.Thread(target=work), summary=summary)  # type: ignore[arg-type]
        running.thread.start()
        assert opened.wait(DEADLINE_S)
        if running.membership is None:
            running.join()
            assert running.failure is not None
            raise running.failure
        return running

    def until_end(self) -> Until:
        return Until(ends=self.ends(), to_end=True)


def make_world(kafka: str, zookeeper: str, database: str, topic: str, **lease: float) -> World:
    services = ServiceSettings(
        ledger=LedgerSettings(connection="ledger_test", conninfo=database, pool_max=8),
        election=ElectionSettings(connection="zookeeper_test", hosts=zookeeper, root=f"/{unique('root')}"),
        channel=ChannelSettings(connection="channel_test", secret="a secret of the tests, long enough"),
        lease=replace(
            LeaseSettings(lease_s=8.0, margin_s=3.0, renew_every_s=1.0, fence_grace_s=1.0), **lease
        ),
    )
    migrate(services.ledger)
    return World(kafka=kafka, services=services, topic=topic)
