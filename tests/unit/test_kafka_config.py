"""The Kafka connection: what is refused, what is completed, and the table of an offset commit's answers."""

import logging
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError

from airflow_kafka_exactly.adapters.kafka import codes, metadata
from airflow_kafka_exactly.adapters.kafka.config import admin_config, check, consumer_config
from airflow_kafka_exactly.errors import ConfigurationError, UnsafeConnection
from airflow_kafka_exactly.protocol.claims import CommitCode
from airflow_kafka_exactly.settings import KafkaSettings


def settings(group_id: str = "payments", topics: tuple[str, ...] = ("t",), **extra: Any) -> KafkaSettings:
    config = {"bootstrap.servers": "localhost:1", **{key.replace("__", "."): v for key, v in extra.items()}}
    return KafkaSettings(connection="kafka_prod", config=config, group_id=group_id, topics=topics)


@pytest.mark.parametrize("value", [True, "true", "True", 1, "1", " t "])
@pytest.mark.parametrize("key", ["enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store"])
def test_case_03_automatic_offset_commits_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UnsafeConnection, match=rf"kafka_prod.*{key}.*Remove {key}"):
        check(settings(**{key: value}))
    with pytest.raises(UnsafeConnection, match=key):
        check(settings(**{"default.topic.config": {key: value}}))


@pytest.mark.parametrize("given", [{}, {"enable.auto.commit": False, "enable.auto.offset.store": "false"}])
def test_case_03_unset_means_off(given: dict[str, object]) -> None:
    config = consumer_config(settings(**given), "dag.task[0]")
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("group.protocol", "consumer"),
        ("isolation.level", "read_uncommitted"),
        ("partition.assignment.strategy", "range,roundrobin"),
        ("partition.assignment.strategy", "cooperative-sticky,range"),
        ("group.id", "another"),
        ("auto.offset.reset", "latest"),
        ("auto.offset.reset", "largest"),
    ],
)
def test_what_would_lose_or_repeat_records_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(UnsafeConnection, match=rf"kafka_prod.*{key}={value!r}"):
        check(settings(**{key: value}))


def test_a_foreign_instance_id_is_refused_and_the_own_one_is_not() -> None:
    with pytest.raises(UnsafeConnection, match=r"group\.instance\.id"):
        check(settings(**{"group.instance.id": "mine"}), "dag.task[0]")
    check(settings(**{"group.instance.id": "dag.task[0]", "group.id": "payments"}), "dag.task[0]")


def test_what_is_incomplete_or_wrong_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka_prod.*bootstrap\.servers"):
        check(settings(bootstrap__servers=""))
    with pytest.raises(ConfigurationError, match=r"auto\.offset\.reset='sometimes'"):
        check(settings(auto__offset__reset="sometimes"))
    with pytest.raises(ConfigurationError, match="patterns"):
        check(settings(topics=("^a.*",)))
    with pytest.raises(ConfigurationError, match=r"max\.poll\.interval\.ms=10"):
        consumer_config(settings(max__poll__interval__ms=10), "s")
    with pytest.raises(ConfigurationError, match=r"max\.poll\.interval\.ms='soon'"):
        consumer_config(settings(max__poll__interval__ms="soon"), "s")


def test_what_is_missing_is_completed_and_what_the_user_chose_is_kept() -> None:
    config = consumer_config(settings(fetch__min__bytes=7, max__poll__interval__ms=60_000), "dag.task[0]")
    assert config["group.id"] == "payments"
    assert config["group.instance.id"] == "dag.task[0]"
    assert config["group.protocol"] == "classic"
    assert config["partition.assignment.strategy"] == "cooperative-sticky"
    assert config["isolation.level"] == "read_committed"
    assert config["enable.partition.eof"] is True
    assert config["fetch.queue.backoff.ms"] == 10
    assert config["queued.min.messages"] == 16 * 1024 * 1024 // 1024
    assert config["queued.max.messages.kbytes"] == 16 * 1024
    assert config["topic.metadata.refresh.interval.ms"] == 10_000, "added partitions would be idle for 300 s"
    assert (config["fetch.min.bytes"], config["max.poll.interval.ms"]) == (7, 60_000)
    assert config["session.timeout.ms"] == 15_000
    assert config["heartbeat.interval.ms"] * 3 <= config["session.timeout.ms"]
    Consumer(config).close()  # the client knows every key


def test_a_producers_limit_and_the_clients_other_names_do_not_break_the_bounds_of_what_is_fetched() -> None:
    config = consumer_config(
        settings(message__max__bytes=50_000_000, max__partition__fetch__bytes=5_000), "dag.task[0]"
    )
    assert (config["fetch.max.bytes"], config["fetch.message.max.bytes"]) == (1_000_000, 5_000)
    Consumer(config).close()


def test_the_operators_session_timeout_decides_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = consumer_config(settings(session__timeout__ms=45_000), "s")
    assert config["session.timeout.ms"] == 15_000
    assert "45000" in caplog.text
    assert "15.0" in caplog.text


def test_the_admin_gets_brokers_and_security_alone() -> None:
    given = settings(
        security__protocol="SASL_SSL", sasl__password="p", group__id="payments", auto__offset__reset="latest"
    ).config
    assert admin_config(given, 10) == {
        "bootstrap.servers": "localhost:1",
        "security.protocol": "SASL_SSL",
        "sasl.password": "p",
        "socket.timeout.ms": 10_000,
    }


def error_names() -> list[str]:
    """Every constant of the client's error class."""
    return [n for n in dir(KafkaError) if n.lstrip("_").isupper() and isinstance(getattr(KafkaError, n), int)]


def test_case_30_every_error_code_is_classified_once() -> None:
    names = error_names()
    assert len(names) > 150
    assert set(names) == set(codes.BY_NAME), "a code is forgotten, or does not exist (any more)"
    listed = [name for _, row in codes._ROWS for name in row]
    assert sorted(listed) == sorted(set(listed)), "a code stands in two rows"
    assert all(
        codes.classify(KafkaError(getattr(KafkaError, n)))[0] is codes.BY_NAME[n]
        for n in names
        if n != "NO_ERROR"
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ILLEGAL_GENERATION", CommitCode.ORPHAN),
        ("UNKNOWN_MEMBER_ID", CommitCode.ORPHAN),
        ("FENCED_INSTANCE_ID", CommitCode.ORPHAN),
        ("_FATAL", CommitCode.ORPHAN),
        ("UNKNOWN_TOPIC_OR_PART", CommitCode.ORPHAN),
        ("REBALANCE_IN_PROGRESS", CommitCode.RETRY),
        ("COORDINATOR_NOT_AVAILABLE", CommitCode.RETRY),
        ("NOT_COORDINATOR", CommitCode.RETRY),
        ("_TRANSPORT", CommitCode.RETRY),
        ("_TIMED_OUT", CommitCode.RETRY),
        ("GROUP_AUTHORIZATION_FAILED", CommitCode.FATAL),
        ("OFFSET_METADATA_TOO_LARGE", CommitCode.FATAL),
    ],
)
def test_case_30_what_the_common_codes_mean(name: str, code: CommitCode) -> None:
    assert codes.classify(KafkaError(getattr(KafkaError, name))) == (code, name)


def test_case_30_no_error_is_accepted_and_an_unknown_code_is_an_orphan_commit() -> None:
    assert codes.classify(None) == (CommitCode.ACCEPTED, "NO_ERROR")
    assert codes.classify(KafkaError(9999))[0] is CommitCode.ORPHAN


def test_the_note_of_an_offset_commit_is_read_as_it_was_written() -> None:
    assert metadata.read(metadata.write(42, "a-Topic_id")) == metadata.Note(42, "a-Topic_id")
    assert metadata.read("kx1 claim=7") == metadata.Note(7, "")
    for foreign in (None, "", "kx2 claim=7", "my kx1 claim=7", "kx1 claim="):
        assert metadata.read(foreign) is None
