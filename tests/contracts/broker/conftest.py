"""`cluster` is the broker in memory and Kafka, in turn; what a test opened is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from brokers import Cluster, MemoryCluster, RealCluster, TestMember

from airflow_kafka_exactly.settings import KafkaSettings


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "memory":
        return MemoryCluster()
    return RealCluster(request.getfixturevalue("kafka"))


@pytest.fixture
def member(cluster: Cluster) -> Iterator[Callable[..., TestMember]]:
    """`member(settings, slot)` opens a consumer."""
    opened: list[TestMember] = []

    def open_one(settings: KafkaSettings, slot: str = "dag.task[0]") -> TestMember:
        opened.append(TestMember(cluster.consumers(settings), slot))
        return opened[-1]

    yield open_one
    for one in opened:
        one.consumer.close()
