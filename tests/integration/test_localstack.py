"""The services that all other integration tests stand on."""

from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from kazoo.client import KazooClient
from localstack import Kafka, PostgreSQL, ZooKeeper

pytestmark = pytest.mark.integration


def test_a_record_goes_through_kafka(kafka: str, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(name, b"value")
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": name, "auto.offset.reset": "earliest"})
    consumer.subscribe([name])
    record = consumer.poll(30)
    consumer.close()
    assert record is not None
    assert record.value() == b"value"


def test_a_short_zookeeper_session_is_granted(zookeeper: str) -> None:
    client = KazooClient(zookeeper, timeout=1.0)
    client.start(timeout=30)
    client.create("/test/short", ephemeral=True, makepath=True)
    client.stop()
    client.close()


def test_each_test_has_an_empty_database(database: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


def test_postgres_keeps_its_port_and_data_when_killed(own_postgres: PostgreSQL) -> None:
    conninfo = own_postgres.create_database("kept")
    own_postgres.kill()
    assert not own_postgres.ready()
    own_postgres.start()
    psycopg.connect(conninfo).close()


def test_a_frozen_zookeeper_answers_again_when_thawed(own_zookeeper: ZooKeeper) -> None:
    own_zookeeper.freeze()
    assert not own_zookeeper.ready()
    own_zookeeper.thaw()
    own_zookeeper.wait_ready()


def test_kafka_keeps_its_topics_when_restarted(own_kafka: Kafka) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": own_kafka.address, "log_level": 0})
    admin.create_topics([NewTopic("kept", 2, 1)])["kept"].result(30)
    own_kafka.restart()
    assert len(admin.list_topics("kept", timeout=30).topics["kept"].partitions) == 2
