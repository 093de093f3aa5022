"""The only place where adapters meet runtime; one of each per process.

A triggerer runs hundreds of our triggers: the ledger's connections, the ZooKeeper session and the contender are shared by all
of them and closed with the last. Everything is made on first use, in the process that uses it, since Airflow forks.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_kafka_exactly.adapters.channel import GrpcChannel, GrpcServer
from airflow_kafka_exactly.adapters.guard import BootClock, NoGuard, ProcessGuard
from airflow_kafka_exactly.adapters.kafka import ClusterAdmin, KafkaConsumers
from airflow_kafka_exactly.adapters.postgres import Ledgers, open_ledger
from airflow_kafka_exactly.adapters.zookeeper import ZooKeeperDirectory, ZooKeeperElection
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.ports import Directory, KafkaAdmin
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.runtime.membership import MemberPorts
from airflow_kafka_exactly.runtime.renewals import Renewals
from airflow_kafka_exactly.settings import ElectionSettings, KafkaSettings, LedgerSettings, ServiceSettings

T = TypeVar("T")
RESOLVE_AGAIN_S = 60.0


@dataclass(slots=True, eq=False)
class _Held(Generic[T]):
    close: Callable[[T], None]
    value: Future[T] = field(default_factory=Future)
    holders: set[object] = field(default_factory=set)


class _PerProcess:
    """Values that are shared within a process and closed with their last holder.

    One holder makes a value, outside of the lock, and the others wait for it: with a service that is away all of them hear so
    after one time-out, not one after the other. A task's time-out is a signal and may end the maker between any two lines: then
    the others hear that, and whoever comes next makes it.
    """

    def __init__(self) -> None:
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._held: dict[Hashable, _Held[Any]] = {}

    @contextlib.contextmanager
    def shared(self, key: Hashable, make: Callable[[], T], close: Callable[[T], None]) -> Iterator[T]:
        held = mine = _Held(close)
        try:
            held = self._join(key, mine)
            if held is mine:
                self._make(key, held, make)
            yield held.value.result()
        finally:
            self._leave(key, held, mine)

    def _join(self, key: Hashable, mine: _Held[T]) -> _Held[T]:
        """The value that is there, or `mine`, which is then to be made."""
        with self._lock:
            if (
                self._pid != os.getpid()
            ):  # a fork inherits the table, but none of the threads behind its values
                self._held, self._pid = {}, os.getpid()
            held = self._held.setdefault(key, mine)
            held.holders.add(mine)
            return held

    def _make(self, key: Hashable, held: _Held[T], make: Callable[[], T]) -> None:
        try:
            value = make()
        except Exception as failure:
            with self._lock:
                self._forget(key, held)  # whoever comes from now on tries again
            held.value.set_exception(failure)
            raise
        held.value.set_result(value)

    def _leave(self, key: Hashable, held: _Held[T], mine: _Held[T]) -> None:
        with self._lock:
            found = self._held.get(key)
            if found is not None and mine in found.holders:
                held = found  # also when `_join` did not come to say so
            held.holders.discard(mine)
            last, unmade = not held.holders, held is mine and not held.value.done()
            if last or unmade:
                self._forget(key, held)
        if unmade:
            held.value.set_exception(
                Unavailable("this process", "shared by its tasks", "who opened it was interrupted")
            )
        if last and held.value.exception() is None:
            held.close(held.value.result())

    def _forget(self, key: Hashable, held: _Held[T]) -> None:
        if self._held.get(key) is held:
            del self._held[key]


_process = _PerProcess()


def shared_ledger(settings: LedgerSettings) -> contextlib.AbstractContextManager[Ledgers]:
    return _process.shared(
        ("ledger", settings), lambda: open_ledger(settings), lambda ledgers: ledgers.close()
    )


def shared_directory(settings: ElectionSettings) -> contextlib.AbstractContextManager[Directory]:
    return _process.shared(("directory", settings), lambda: ZooKeeperDirectory(settings), lambda d: d.close())


class _Admins:
    """One admin client for each cluster and login, for as long as somebody has it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: weakref.WeakValueDictionary[Hashable, ClusterAdmin] = weakref.WeakValueDictionary()

    def of(self, connection: str, config: Mapping[str, Any], request_timeout_s: float = 10.0) -> ClusterAdmin:
        key = (os.getpid(), connection, repr(sorted(config.items(), key=str)), request_timeout_s)
        with self._lock:
            found = self._living.get(key)
            if found is None:
                found = self._living[key] = ClusterAdmin(connection, config, request_timeout_s)
            return found


_admins = _Admins()


def admin_of(kafka: KafkaSettings) -> ClusterAdmin:
    return _admins.of(kafka.connection, kafka.config, kafka.request_timeout_s)


class Clusters:
    """Where a group's Kafka is, for the leader's drain: as this process consumes it, else by the connection that the ledger
    names, else by the default one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, KafkaSettings] = {}
        self._resolve: Callable[[str], Mapping[str, Any]] | None = None
        self._default = ""
        self._resolved: dict[str, tuple[float, ClusterAdmin]] = {}

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
            return self._kept(known.connection, lambda: admin_of(known))
        connection = recorded(group_id) or default
        if not connection or resolve is None:
            return None
        return self._kept(connection, lambda: _admins.of(connection, resolve(connection)))

    def _kept(self, connection: str, find: Callable[[], ClusterAdmin]) -> ClusterAdmin:
        """Looked up again after a while: a connection whose password or brokers were changed reaches a leader that goes on."""
        with self._lock:
            found = self._resolved.get(connection)
        now = time.monotonic()
        if found is None or now > found[0] + RESOLVE_AGAIN_S:
            found = (now, find())
            with self._lock:
                self._resolved[connection] = found
        return found[1]


clusters = Clusters()
"""Of this process."""


@contextlib.contextmanager
def member_ports(services: ServiceSettings, kafka: KafkaSettings, *, guarded: bool) -> Iterator[MemberPorts]:
    """The world as one member sees it. `guarded`: effects run in this process, outside of the ledger's transaction."""
    clusters.know(kafka)
    admin = admin_of(kafka)
    with (
        shared_ledger(services.ledger) as ledgers,
        shared_directory(services.election) as directory,
        _process.shared("renewals", Renewals, lambda _: None) as renewals,
        contextlib.closing(ProcessGuard() if guarded else NoGuard()) as guard,
    ):
        yield MemberPorts(
            ledger=ledgers.member,
            consumers=KafkaConsumers(kafka, admin),
            admin=admin,
            directory=directory,
            channel=GrpcChannel(services.channel),
            clock=BootClock(),
            guard=guard,
            renewals=renewals,
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
