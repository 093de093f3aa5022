"""One election, two adapters: `world` is both, in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from elections import MemoryWorld, ZooKeeperWorld
from fakes import eventually
from kazoo.client import KazooClient


@pytest.fixture(params=["memory", "zookeeper"])
def world(request: pytest.FixtureRequest) -> Iterator[MemoryWorld | ZooKeeperWorld]:
    if request.param == "memory":
        yield MemoryWorld()
    else:
        yield from zookeeper_world(request)


@pytest.fixture
def real_world(request: pytest.FixtureRequest) -> Iterator[ZooKeeperWorld]:
    yield from zookeeper_world(request)


def zookeeper_world(request: pytest.FixtureRequest) -> Iterator[ZooKeeperWorld]:
    hosts = request.getfixturevalue("zookeeper")
    before = set(threading.enumerate())
    root = f"/test-{request.node.name}-{id(request)}"
    world = ZooKeeperWorld(hosts, root)
    yield world
    world.close()
    clean = KazooClient(hosts=hosts)
    clean.start(10)
    clean.delete(root, recursive=True)
    clean.stop()
    clean.close()
    eventually(lambda: set(threading.enumerate()) <= before)
