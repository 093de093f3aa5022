"""Airflow's connections and configuration become Settings, from workers and from the triggerer's event loop alike."""

import json

import pytest
from stage import EXAMPLES

from airflow_kafka_exactly import hooks
from airflow_kafka_exactly.errors import ConfigurationError, Unavailable


@pytest.fixture(autouse=True)
def defined(monkeypatch: pytest.MonkeyPatch) -> None:
    for conn_id, fields in EXAMPLES.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
    monkeypatch.setattr(hooks, "_found", set())


def test_settings_come_from_airflows_connections() -> None:
    settings = hooks.service_settings()
    assert settings.ledger.schema == "kafka_exactly"
    assert settings.election.hosts == "zk1:1,zk2:2181"
    assert settings.channel.secret == "0123456789abcdef"
    assert hooks.ledger_settings() == settings.ledger


def test_a_connection_that_was_there_before_is_an_outage_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A triggerer whose API server is away hears "not found": a trigger that begins anew then must not fail its task."""
    hooks.service_settings()
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_EXACTLY_LEDGER")
    with pytest.raises(Unavailable, match=r"Airflow.*kafka_exactly_ledger"):
        hooks.service_settings()


def test_kafka_settings_come_from_the_providers_connection_type() -> None:
    settings = hooks.kafka_settings("my_kafka", "mine", ["a", "b"], session_timeout_s=20.0)
    assert settings.config["bootstrap.servers"] == "broker:9092"
    assert (settings.connection, settings.group_id, settings.topics) == ("my_kafka", "mine", ("a", "b"))
    assert hooks.kafka_settings("my_kafka", "", "a").group_id == "theirs"
    assert hooks.kafka_settings("my_kafka", "", "a").topics == ("a",)
    assert hooks.kafka_client_config("my_kafka") == settings.config


def test_a_callback_that_is_not_allowed_is_refused_with_the_connections_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {"bootstrap.servers": "b", "error_cb": "os.system"}
    monkeypatch.setenv("AIRFLOW_CONN_MY_KAFKA", json.dumps({"conn_type": "kafka", "extra": extra}))
    with pytest.raises(ConfigurationError, match=r"Kafka: connection 'my_kafka', field 'extra'.*error_cb"):
        hooks.kafka_settings("my_kafka", "g", ["t"])


def test_options_of_the_configuration_reach_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in {"LEASE_S": "30", "FILTER_CAPACITY": "5000", "LEDGER_SCHEMA": "other"}.items():
        monkeypatch.setenv(f"AIRFLOW__KAFKA_EXACTLY__{option}", value)
    settings = hooks.service_settings()
    assert settings.lease.lease_s == 30
    assert settings.filter.capacity == 5000
    assert settings.ledger.schema == "other"


def test_case_21_an_option_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KAFKA_EXACTLY__LEASE_S", "soon")
    with pytest.raises(ConfigurationError, match=r"\[kafka_exactly\] lease_s = 'soon' is no number"):
        hooks.service_settings()


@pytest.mark.parametrize(
    ("conn_id", "words"),
    [
        ("kafka_exactly_ledger", ["PostgreSQL", "[kafka_exactly] ledger_conn_id", "airflow connections add"]),
        (
            "kafka_exactly_zookeeper",
            ["ZooKeeper", "[kafka_exactly] zookeeper_conn_id", "airflow connections add"],
        ),
        (
            "kafka_exactly_channel",
            ["the channel", "[kafka_exactly] channel_conn_id", "airflow connections add"],
        ),
    ],
)
def test_case_21_a_missing_connection_names_service_and_setting(
    conn_id: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
    with pytest.raises(ConfigurationError) as raised:
        hooks.service_settings()
    assert all(word in str(raised.value) for word in [*words, conn_id])


def test_case_21_a_missing_kafka_connection_names_the_parameter() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Kafka: connection 'nobody' \(kafka_config_id\) is not defined"
    ):
        hooks.kafka_settings("nobody", "g", ["t"])


def test_the_size_of_the_ledgers_pool_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hooks.ledger_settings().pool_max == 4
    monkeypatch.setenv("AIRFLOW__KAFKA_EXACTLY__LEDGER_POOL_SIZE", "9")
    assert hooks.ledger_settings().pool_max == 9
    monkeypatch.setenv("AIRFLOW__KAFKA_EXACTLY__LEDGER_POOL_SIZE", "many")
    with pytest.raises(ConfigurationError, match="ledger_pool_size"):
        hooks.ledger_settings()
