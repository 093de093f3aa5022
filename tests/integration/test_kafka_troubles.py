"""A broker that cannot be reached, refuses, or goes away for a while."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import RealCluster, TestMember, eventually, settings, unique
from confluent_kafka import Consumer
from localstack import Kafka
from localstack.ports import free_port

from airflow_kafka_exactly.adapters.kafka import ClusterAdmin, KafkaConsumers
from airflow_kafka_exactly.errors import ConfigurationError, Fenced, GroupInUse, Unavailable
from airflow_kafka_exactly.protocol.claims import CommitCode
from airflow_kafka_exactly.settings import KafkaSettings

pytestmark = pytest.mark.integration


class SaslKafka(Kafka):
    """Clients need a name and a password; the broker talks to itself without."""

    def prepare(self) -> None:
        super().prepare()
        self.clients = free_port()
        text = self._properties.read_text()
        text = text.replace("PLAINTEXT:PLAINTEXT,", "PLAINTEXT:PLAINTEXT,CLIENTS:SASL_PLAINTEXT,")
        for key in ("listeners", "advertised.listeners"):
            text = text.replace(f"\n{key}=", f"\n{key}=CLIENTS://127.0.0.1:{self.clients},")
        text += """
sasl.enabled.mechanisms=PLAIN
inter.broker.listener.name=PLAINTEXT
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_a="b";
"""
        self._properties.write_text(text)


@pytest.fixture
def sasl_kafka(tmp_path: Path) -> Iterator[SaslKafka]:
    broker = SaslKafka(tmp_path)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


def unreachable(**config: Any) -> KafkaSettings:
    return KafkaSettings(
        connection="kafka_prod", config=config, group_id=unique("group"), topics=("t",), request_timeout_s=3
    )


@pytest.mark.parametrize("servers", ["127.0.0.1:1", "no-such-host.invalid:9092"])
def test_case_21_an_unreachable_broker_is_named_in_time(servers: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"Kafka.*kafka_prod.*bootstrap\.servers") as caught:
        KafkaConsumers(unreachable(**{"bootstrap.servers": servers})).open(
            "s", TestMember.__new__(TestMember)
        )
    assert time.monotonic() - begun < 10
    assert servers.split(":", maxsplit=1)[0] in str(caught.value), "says which broker"


@pytest.mark.parametrize("ask", ["cluster_id", "instances", "end_offsets", "committed"])
def test_case_21_every_question_to_an_unreachable_broker_ends_in_time(ask: str) -> None:
    admin = ClusterAdmin("kafka_prod", {"bootstrap.servers": "127.0.0.1:1"}, request_timeout_s=1)
    arguments: dict[str, tuple[object, ...]] = {
        "instances": ("g",),
        "end_offsets": (["t"],),
        "committed": ("g", []),
    }
    if ask == "committed":
        assert admin.committed("g", []) == {}, "nothing to ask"
        return
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        getattr(admin, ask)(*arguments.get(ask, ()))
    assert time.monotonic() - begun < 10


def test_case_21_wrong_security_is_told_with_its_setting(kafka: str) -> None:
    config = {"bootstrap.servers": kafka, "security.protocol": "ssl"}
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"kafka_prod.*SSL handshake failed.*PLAINTEXT broker listener"):
        KafkaConsumers(unreachable(**config)).open("s", TestMember.__new__(TestMember))
    assert time.monotonic() - begun < 10


def test_case_21_wrong_credentials_are_told_at_once(sasl_kafka: SaslKafka) -> None:
    config = {
        "bootstrap.servers": f"127.0.0.1:{sasl_kafka.clients}",
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "someone",
        "sasl.password": "wrong",
    }
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"kafka_prod.*refuses the credentials.*sasl"):
        KafkaConsumers(unreachable(**config)).open("s", TestMember.__new__(TestMember))
    assert time.monotonic() - begun < 10


def test_an_unknown_key_of_the_connection_is_named(kafka: str) -> None:
    config = {"bootstrap.servers": kafka, "bootstrap.sewers": "x"}
    with pytest.raises(ConfigurationError, match=r"kafka_prod.*bootstrap\.sewers"):
        KafkaConsumers(unreachable(**config)).open("s", TestMember.__new__(TestMember))


def test_a_group_with_plain_members_is_refused(kafka: str) -> None:
    cluster = RealCluster(kafka)
    topic = cluster.topic()
    ours = settings(cluster, topic)
    plain = Consumer({"bootstrap.servers": kafka, "group.id": ours.group_id})
    plain.subscribe([topic])
    eventually(lambda: plain.poll(0.1) or plain.assignment())
    assert cluster.admin().instances(ours.group_id) == ("",)
    member = TestMember(cluster.consumers(ours))
    try:
        with pytest.raises(GroupInUse, match="group_id of its own"):
            member.poll_until(lambda: plain.poll(0) and False)
    finally:
        member.consumer.close()
        plain.close()


@pytest.fixture
def outage(own_kafka: Kafka) -> tuple[Kafka, RealCluster]:
    return own_kafka, RealCluster(own_kafka.address)


def test_a_broker_that_was_away_costs_nothing(outage: tuple[Kafka, RealCluster]) -> None:
    """The client may say that it was fenced when it was not: its session ended while nobody answered. Its life is still
    the current one then, so it opens a new consumer, as `Fenced` from a poll always asks to find out."""
    broker, cluster = outage
    topic = cluster.topic()
    cluster.produce(topic, b"before")
    ours = settings(cluster, topic, request_timeout_s=3)
    member = TestMember(cluster.consumers(ours))
    member.poll_until(lambda: member.values() == [b"before"])
    partition = member.batches[0].partition
    broker.stop()
    try:
        for _ in range(20):
            member.poll()  # raises nothing
        assert member.consumer.commit({partition: (1, 1)})[partition][0] is CommitCode.RETRY
    finally:
        broker.start()
    cluster.produce(topic, b"after")

    def passed(condition: Callable[[], object]) -> bool:
        nonlocal member
        try:
            member.poll()
        except Unavailable:
            return False
        except Fenced:
            member.consumer.close()
            successor = TestMember(cluster.consumers(ours))
            successor.batches, successor.starts = member.batches, {0: member.stop_of()}
            member = successor
            return False
        return bool(condition())

    eventually(lambda: passed(lambda: member.stop_of() == 2), 60)
    assert member.values() == [b"before", b"after"] or member.values() == [b"before", b"before", b"after"]
    accepted = (CommitCode.ACCEPTED, "NO_ERROR")
    eventually(lambda: passed(lambda: member.consumer.commit({partition: (2, 2)})[partition] == accepted), 60)
    member.consumer.close()


def test_case_07_closing_while_the_broker_is_away_is_bounded(outage: tuple[Kafka, RealCluster]) -> None:
    broker, cluster = outage
    topic = cluster.topic()
    member = TestMember(cluster.consumers(settings(cluster, topic)))
    member.poll_until(lambda: member.owns(0))
    broker.stop()
    begun = time.monotonic()
    member.consumer.close()
    assert time.monotonic() - begun < 5


def test_one_deleted_topic_does_not_hide_that_the_others_offset_was_committed(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = RealCluster(kafka)
    kept, gone = cluster.topic(), cluster.topic()
    ours = settings(cluster, kept, gone)
    member = TestMember(cluster.consumers(ours))
    member.poll_until(lambda: len(member.consumer.assignment()) == 2)
    partitions = {p.topic: p for p in member.consumer.assignment()}
    monkeypatch.setattr(member.consumer._topics, "look", lambda _: True)  # type: ignore[attr-defined]
    cluster.delete(gone)
    answers = member.consumer.commit({partitions[kept]: (0, 1), partitions[gone]: (0, 1)})
    assert answers == {
        partitions[kept]: (CommitCode.ACCEPTED, "NO_ERROR"),
        partitions[gone]: (CommitCode.ORPHAN, "UNKNOWN_TOPIC_OR_PART"),
    }
    member.consumer.close()
