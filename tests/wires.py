"""Channels for tests: servers, clients and standbys of either adapter."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fakes import FakeLeader, FakeStandby

from airflow_kafka_exactly.adapters.channel import GrpcChannel, GrpcServer
from airflow_kafka_exactly.adapters.memory.channel import MemoryChannel, MemoryNetwork, MemoryServer
from airflow_kafka_exactly.ports import Channel, ChannelServer
from airflow_kafka_exactly.settings import ChannelSettings

SECRET = "a secret for tests only"


def settings(secret: str = SECRET, **changes: object) -> ChannelSettings:
    values: dict[str, object] = {
        "keepalive_s": 0.4,
        "standby_ack_timeout_s": 0.5,
        "call_timeout_s": 5.0,
        **changes,
    }
    return ChannelSettings(connection="kafka_exactly_channel", secret=secret, **values)  # type: ignore[arg-type]


class Wire:
    """Servers and clients of one adapter; what was started is stopped after the test."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.leader = FakeLeader()
        self._network = MemoryNetwork()
        self._servers: list[ChannelServer] = []
        self._followers: list[Follower] = []

    def channel(self, secret: str = SECRET, version: str = "1") -> Channel:
        if self.kind == "grpc":
            return GrpcChannel(settings(secret), version)
        return MemoryChannel(self._network, settings(secret), version)

    def serve(self) -> tuple[ChannelServer, str]:
        server: ChannelServer
        server = GrpcServer(settings()) if self.kind == "grpc" else MemoryServer(self._network, settings())
        self._servers.append(server)
        return server, server.start(self.leader)

    def follow(self, address: str, name: str) -> Follower:
        follower = Follower(lambda handler, stop: self.channel().follow(address, name, handler, stop))
        self._followers.append(follower)
        return follower

    def close(self) -> None:
        for follower in self._followers:
            follower.stop()
        for server in self._servers:
            server.stop()


class Follower:
    """A standby in a thread of its own, until it is stopped or the stream breaks."""

    def __init__(self, follow: Callable[[FakeStandby, Callable[[], bool]], None]) -> None:
        self.standby = FakeStandby()
        self.error: Exception | None = None
        self._follow, self._stop = follow, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def over(self) -> bool:
        return not self.thread.is_alive()

    def stop(self) -> None:
        self.standby.free.set()
        self._stop.set()
        self.thread.join(10)
        assert self.over

    def _run(self) -> None:
        try:
            self._follow(self.standby, self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - kept for the test to look at
            self.error = error
