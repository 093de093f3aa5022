"""The only place where adapters meet runtime; one of each per process.

A triggerer runs hundreds of our triggers: the ledger's connections, the ZooKeeper session and the contender are shared by all
of them and closed with the last. Everything is made on first use, in the process that uses it, since Airflow forks.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airflow_kafka_exactly.adapters.channel import GrpcChannel, GrpcServer
from airflow_kafka_exactly.adapters.guard import BootClock, NoGuard, ProcessGuard
from airflow_kafka_exactly.adapters.kafka import ClusterAdmin, KafkaConsumers
from airflow_kafka_exactly.adapters.postgres import Ledgers, open_ledger
from airflow_kafka_exactly.adapters.zookeeper import ZooKeeperDirectory, ZooKeeperElection
from airflow_kafka_exactly.ports import Directory, KafkaAdmin
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.runtime.membership import MemberPorts
from airflow_kafka_exactly.settings import ElectionSettings, KafkaSettings, LedgerSettings, ServiceSettings

T = TypeVar("T")


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    close: Callable[[T], None]
    holders: int = 0


class _PerProcess:
    """Values that are shared within a process and closed with their last holder."""

    def __init__(self) -> None:
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._held: dict[Hashable, _Held[Any]] = {}

    @contextlib.contextmanager
    def shared(self, key: Hashable, make: Callable[[], T], close: Callable[[T], None]) -> Iterator[T]:
        with self._lock:
            if (
                self._pid != os.getpid()
            ):  # a fork inherits the table, but none of the threads behind its values
                self._held, self._pid = {}, os.getpid()
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = _Held(make(), close)
            held.holders += 1
        try:
            yield held.value
        finally:
            with self._lock:
                held.holders -= 1
                if held.holders == 0:
                    self._held.pop(key, None)
                    held.close(held.value)


_process = _PerProcess()


def shared_ledger(settings: LedgerSettings) -> contextlib.AbstractContextManager[Ledgers]:
    return _process.shared(
        ("ledger", settings), lambda: open_ledger(settings), lambda ledgers: ledgers.close()
    )


def shared_directory(settings: ElectionSettings) -> contextlib.AbstractContextManager[Directory]:
    return _process.shared(("directory", settings), lambda: ZooKeeperDirectory(settings), lambda d: d.close())


class Clusters:
    """Where a group's Kafka is, for the leader's drain: as this process consumes it, else by the connection that the ledger
    names, else by the default one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, KafkaSettings] = {}
        self._resolve: Callable[[str], Mapping[str, Any]] | None = None
        self._default = ""
        self._admins: dict[str, KafkaAdmin] = {}

    def know(self, kafka: KafkaSettings) -> None:
        with self._lock:
            self._known[kafka.group_id] = kafka

    def resolve_with(self, resolve: Callable[[str], Mapping[str, Any]], default: str) -> None:
        """`resolve` turns a connection's id into librdkafka's configuration; `default` is for groups that name none."""
        with self._lock:
            self._resolve, self._default = resolve, default

    def admin(self, group_id: str, recorded: Callable[[str], str]) -> KafkaAdmin | None:
        """None when nobody can say where the cluster is: then this contender leaves the group's offsets alone."""
        with self._lock:
            known, resolve, default = self._known.get(group_id), self._resolve, self._default
        if known is not None:
            return self._admin(known.connection, lambda _: known.config)
        connection = recorded(group_id) or default
        return self._admin(connection, resolve) if connection and resolve is not None else None

    def _admin(self, connection: str, resolve: Callable[[str], Mapping[str, Any]]) -> KafkaAdmin:
        with self._lock:
            known = self._admins.get(connection)
        if known is None:
            known = ClusterAdmin(connection, resolve(connection))
            with self._lock:
                self._admins[connection] = known
        return known


clusters = Clusters()
"""Of this process."""


@contextlib.contextmanager
def member_ports(services: ServiceSettings, kafka: KafkaSettings, *, guarded: bool) -> Iterator[MemberPorts]:
    """The world as one member sees it. `guarded`: effects run in this process, outside of the ledger's transaction."""
    clusters.know(kafka)
    with (
        shared_ledger(services.ledger) as ledgers,
        shared_directory(services.election) as directory,
        contextlib.closing(ProcessGuard() if guarded else NoGuard()) as guard,
    ):
        yield MemberPorts(
            ledger=ledgers.member,
            consumers=KafkaConsumers(kafka),
            admin=ClusterAdmin(kafka.connection, kafka.config, kafka.request_timeout_s),
            directory=directory,
            channel=GrpcChannel(services.channel),
            clock=BootClock(),
            guard=guard,
        )


@contextlib.contextmanager
def coordinator(services: ServiceSettings) -> Iterator[Coordinator]:
    """A contender, started; it resigns at the end."""
    with shared_ledger(services.ledger) as ledgers:
        contender = Coordinator(
            election=ZooKeeperElection(services.election),
            directory=ZooKeeperDirectory(services.election),
            server=GrpcServer(services.channel),
            channel=GrpcChannel(services.channel),
            ledger=ledgers.leader,
            admins=lambda group: clusters.admin(group, ledgers.leader.kafka_connection),
            clock=BootClock(),
            settings=services,
        )
        contender.start()
        try:
            yield contender
        finally:
            contender.stop()


def hosted_contender(services: ServiceSettings) -> contextlib.AbstractContextManager[Any]:
    """One contender for all of this process's triggers: started by the first, resigned by the last."""

    def start() -> tuple[Coordinator, contextlib.ExitStack]:
        stack = contextlib.ExitStack()
        return stack.enter_context(coordinator(services)), stack

    return _process.shared(("contender", services.election), start, lambda held: held[1].close())
