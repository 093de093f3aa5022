"""Elections for tests: contenders that can be expired, cut off and healed, of either adapter. On the real one each
contender reaches ZooKeeper through a proxy."""

from __future__ import annotations

from typing import Any

from kazoo.client import KazooClient
from proxy import Proxy

from airflow_kafka_exactly.adapters.memory.election import MemoryDirectory, MemoryElection, MemoryZooKeeper
from airflow_kafka_exactly.adapters.zookeeper import ZooKeeperDirectory, ZooKeeperElection
from airflow_kafka_exactly.ports import Directory
from airflow_kafka_exactly.settings import ElectionSettings

SESSION_S, TRUST_S = 2.0, 1.2


def settings(hosts: str, root: str = "/unused", **changes: Any) -> ElectionSettings:
    values = {"session_timeout_s": SESSION_S, "trust_s": TRUST_S, "connect_timeout_s": 5.0, **changes}
    return ElectionSettings(connection="kafka_exactly_zookeeper", hosts=hosts, root=root, **values)


class Contender:
    """An election with what it told and the link it uses. `changes`: what `leads` said, when that changed."""

    def __init__(self, election: Any, address: str, proxy: Proxy | None = None) -> None:
        self.election, self.address, self.proxy = election, address, proxy
        self.changes: list[bool] = []
        self.calls = 0

    def enter(self) -> Contender:
        self.election.contend(self.address, self._changed)
        return self

    def leads(self) -> bool:
        return bool(self.election.leads())

    def _changed(self) -> None:
        leads = self.leads()
        if leads != (self.changes or [False])[-1]:
            self.changes.append(leads)
        self.calls += 1


class MemoryWorld:
    def __init__(self) -> None:
        self._zookeeper = MemoryZooKeeper()

    def contender(self, address: str) -> Contender:
        return Contender(MemoryElection(self._zookeeper), address)

    def directory(self) -> Directory:
        return MemoryDirectory(self._zookeeper)

    def expire(self, contender: Contender) -> None:
        self._zookeeper.expire(contender.address)

    def cut(self, contender: Contender) -> None:
        self._zookeeper.suspend(contender.address)
        self._zookeeper.expire(contender.address)

    freeze = cut

    def heal(self, contender: Contender) -> None:
        self._zookeeper.resume(contender.address)

    def close(self) -> None:
        pass


class ZooKeeperWorld:
    def __init__(self, hosts: str, root: str) -> None:
        self.hosts, self.root = hosts, root
        self._contenders: list[Contender] = []
        self._directories: list[Directory] = []

    def contender(self, address: str) -> Contender:
        proxy = Proxy(self.hosts)
        proxy.__enter__()
        contender = Contender(ZooKeeperElection(settings(proxy.address, self.root)), address, proxy)
        self._contenders.append(contender)
        return contender

    def directory(self) -> Directory:
        directory = ZooKeeperDirectory(settings(self.hosts, self.root))
        self._directories.append(directory)
        return directory

    def expire(self, contender: Contender) -> None:
        expire(self.hosts, contender.election._session._client.client_id)

    def freeze(self, contender: Contender) -> None:
        contender.proxy.freeze()

    def cut(self, contender: Contender) -> None:
        contender.proxy.cut()

    def heal(self, contender: Contender) -> None:
        contender.proxy.heal()

    def close(self) -> None:
        for directory in self._directories:
            directory.close()
        for contender in self._contenders:
            contender.proxy.heal()
            contender.election.resign()
            contender.proxy.__exit__(None, None, None)


def expire(hosts: str, identity: tuple[int, bytes]) -> None:
    """Whoever knows id and password may end a session, without its client's doing."""
    thief = KazooClient(hosts=hosts, client_id=identity)
    thief.start(10)
    thief.stop()
    thief.close()
