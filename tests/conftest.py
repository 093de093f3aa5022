"""Real services for every test that asks for one: started at the first use, one of each per run, on free loopback ports.

``KX_KAFKA``, ``KX_KAFKA_CLUSTER``, ``KX_ZOOKEEPER`` and ``KX_POSTGRES`` name services that already run (``python -m localstack
up``); then nothing is started. Tests of stopped or frozen services take the ``own_…`` fixtures instead, which start a fresh one
for that test.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from localstack import AirflowStack, Kafka, PostgreSQL, Service, Stack, ZooKeeper
from psycopg import sql

_TOPIC_SECONDS = 30.0

S = TypeVar("S", bound=Service)


@pytest.fixture(scope="session")
def services_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and logs of the services this run starts."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def kafka(services_state: Path) -> Iterator[str]:
    """``bootstrap.servers`` of the broker all tests share: use topics and groups of your own."""
    yield from _shared("KX_KAFKA", lambda: Kafka(services_state))


@pytest.fixture(scope="session")
def kafka_cluster(services_state: Path) -> Iterator[str]:
    """``bootstrap.servers`` of three brokers, for what depends on how many there are."""
    if given := os.environ.get("KX_KAFKA_CLUSTER"):
        yield given
        return
    stack = Stack(services_state / "cluster", brokers=3)
    try:
        stack.start(stack.brokers)
        yield stack.bootstrap
    finally:
        stack.down()


@pytest.fixture(scope="session")
def zookeeper(services_state: Path) -> Iterator[str]:
    """kazoo's ``hosts`` of the server all tests share: use paths of your own."""
    yield from _shared("KX_ZOOKEEPER", lambda: ZooKeeper(services_state))


@pytest.fixture(scope="session")
def postgres(services_state: Path) -> Iterator[str]:
    """Conninfo of the superuser; tests usually want ``database``."""
    yield from _shared("KX_POSTGRES", lambda: PostgreSQL(services_state))


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """Conninfo of a new, empty database, dropped after the test."""
    name = sql.Identifier(unique("test"))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    yield psycopg.conninfo.make_conninfo(postgres, dbname=name.as_string().strip('"'))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def topic(kafka: str) -> Callable[..., str]:
    """``topic(partitions=3)`` creates a topic with a name of its own and returns the name."""

    def create(partitions: int = 1, **config: str) -> str:
        return create_topic(kafka, unique("topic"), partitions, config)

    return create


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A running broker that this test may stop, kill or freeze."""
    yield from _own(Kafka(tmp_path))


@pytest.fixture
def own_zookeeper(tmp_path: Path) -> Iterator[ZooKeeper]:
    """A running ZooKeeper that this test may stop, kill or freeze."""
    yield from _own(ZooKeeper(tmp_path))


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[PostgreSQL]:
    """A running PostgreSQL that this test may stop, kill or freeze."""
    yield from _own(PostgreSQL(tmp_path))


@pytest.fixture(scope="session")
def airflow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """Everything, with Airflow's own processes and a coordinator; DAG files go into ``stack.dags``."""
    state = tmp_path_factory.mktemp("airflow_stack")
    (state / "dags").mkdir()
    stack = AirflowStack(state, dags=state / "dags")
    try:
        stack.up()
        yield stack
    finally:
        stack.down()
        stack.postgres.remove()


def unique(prefix: str) -> str:
    """A name nobody else uses, also not a run that shares the services."""
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


def create_topic(bootstrap: str, name: str, partitions: int, config: dict[str, str]) -> str:
    """Create it and return when the broker has."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = NewTopic(name, partitions, 1, config=config)
    admin.create_topics([wanted], operation_timeout=_TOPIC_SECONDS)[name].result(_TOPIC_SECONDS)
    return name


def _shared(variable: str, make: Callable[[], Service]) -> Iterator[str]:
    if given := os.environ.get(variable):
        yield given
        return
    service = make()
    yield from (running.address for running in _own(service))


def _own(service: S) -> Iterator[S]:
    try:
        service.start()
        yield service
    finally:
        service.remove()
