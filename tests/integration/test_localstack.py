"""The services that all other integration tests stand on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from conftest import unique
from kazoo.client import KazooClient
from localstack import Kafka, PostgreSQL, Stack, ZooKeeper
from localstack import state as state_file
from localstack.process import Process, start_time, with_environment
from localstack.service import STATE_VARIABLE

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
    admin = AdminClient({"bootstrap.servers": own_kafka.address, "log_level": 0})
    admin.create_topics([NewTopic("kept", 2, 1)])["kept"].result(30)
    own_kafka.restart()
    assert len(admin.list_topics("kept", timeout=30).topics["kept"].partitions) == 2


def test_an_ensemble_serves_without_one_of_its_members(tmp_path: Path) -> None:
    members = ZooKeeper.ensemble(tmp_path)
    try:
        for member in members:
            member.launch()
        for member in members:
            member.wait_ready()
        members[0].kill()
        members[1].wait_ready()
        members[2].wait_ready()
    finally:
        for member in members:
            member.stop()


def test_a_cluster_has_all_brokers_and_copies_between_them(kafka_cluster: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_cluster})
    name = unique("copied")
    admin.create_topics([NewTopic(name, 3, 3)])[name].result(30)
    found = admin.list_topics(name, timeout=30)
    assert set(found.brokers) == {1, 2, 3}
    assert {p.leader for p in found.topics[name].partitions.values()} == {1, 2, 3}
    producer = Producer({"bootstrap.servers": kafka_cluster, "acks": "all"})
    for number in range(3):
        producer.produce(name, b"value", partition=number)
    assert producer.flush(30) == 0


def test_services_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from localstack import ZooKeeper; service = ZooKeeper(pathlib.Path(sys.argv[1]));"
        "service.start(); print(service.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    orphan = Process(pid, start_time(pid))
    assert orphan.alive()
    parent.kill()
    parent.communicate()
    assert orphan.wait(20)


def test_down_ends_what_another_process_kept_and_what_the_list_forgot(tmp_path: Path) -> None:
    kept = ZooKeeper(tmp_path, name="kept", keep=True)
    forgotten = ZooKeeper(tmp_path, name="forgotten", keep=True)
    kept.start()
    forgotten.start()
    state_file.write(tmp_path, [kept])
    assert list(state_file.read(tmp_path)) == ["kept"]
    assert state_file.end_all(tmp_path) == 2
    assert not kept.running
    assert not forgotten.running
    assert with_environment(STATE_VARIABLE, str(tmp_path)) == []


def test_a_reused_process_id_is_not_signalled() -> None:
    somebody = Process(os.getpid(), "another start time")
    somebody.send(signal.SIGKILL)
    assert not somebody.alive()


def test_a_stack_starts_again_on_the_data_of_the_last_time(tmp_path: Path) -> None:
    for _ in range(2):
        stack = Stack(tmp_path, say=lambda _: None)
        stack.up()
        conninfo = stack.postgres.create_database("kept")
        psycopg.connect(conninfo).close()
        stack.down()
    stack.clear()
    assert not tmp_path.exists()
