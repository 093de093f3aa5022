"""What once worked in this process and does not any more is an outage, whatever the error says."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError

from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.adapters.kafka import trouble as kafka_trouble
from airflow_kafka_exactly.adapters.kafka.trouble import Trouble
from airflow_kafka_exactly.adapters.postgres import pool
from airflow_kafka_exactly.errors import ConfigurationError, Unavailable
from airflow_kafka_exactly.settings import LedgerSettings

LEDGER = LedgerSettings(connection="my_ledger", conninfo="host=ledger.db.svc")
REFUSALS = [
    'could not translate host name "ledger.db.svc" to address: Name or service not known',
    'FATAL:  database "ledger" does not exist',
    'FATAL:  password authentication failed for user "airflow"',
    "FATAL:  no pg_hba.conf entry for host",
]
REFUSED = KafkaError(KafkaError._AUTHENTICATION, "broker 2: SASL authentication error")
LOGIN = {"bootstrap.servers": "k:9092", "sasl.password": "secret"}


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_worked", set())
    monkeypatch.setattr(kafka_trouble, "_worked", set())


@pytest.mark.parametrize("said", REFUSALS)
def test_postgresql_that_has_worked_is_only_away(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        psycopg.OperationalError(said),
        object(),
        psycopg.OperationalError(said),
    ]

    def connect(*_: object, **__: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(pool, "prepare_connection", lambda *_: None)
    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(ConfigurationError, match="my_ledger"):
        pool.connect(LEDGER)
    pool.connect(LEDGER)
    with pytest.raises(Unavailable, match="my_ledger"):
        pool.connect(LEDGER)
    assert not answers


def test_a_resolver_that_is_away_says_nothing_about_the_name() -> None:
    away = psycopg.OperationalError("could not translate host name: Temporary failure in name resolution")
    assert isinstance(pool.connect_error(LEDGER, away), Unavailable)


def test_credentials_that_kafka_took_before_are_an_outage() -> None:
    fresh = Trouble("c", LOGIN)
    assert isinstance(fresh.error(REFUSED), ConfigurationError)
    fresh.all_well()
    assert isinstance(Trouble("c", LOGIN).error(REFUSED), Unavailable)
    other = Trouble("c", {**LOGIN, "sasl.password": "changed"})
    assert isinstance(other.error(REFUSED), ConfigurationError), "these have never worked"


def test_what_is_forbidden_to_a_consumer_that_was_served_is_an_outage() -> None:
    forbidden, trouble = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), Trouble("c", LOGIN)
    assert isinstance(trouble.error(forbidden), ConfigurationError)
    trouble.served = True
    assert isinstance(trouble.error(forbidden), Unavailable)
    assert isinstance(Trouble("c", LOGIN).error(forbidden), ConfigurationError), "another group, perhaps"


def test_an_admin_forgets_a_refusal_with_the_next_answer() -> None:
    admin, delay_s = ClusterAdmin("kafka_prod", {"bootstrap.servers": "127.0.0.1:1"}), [0.0]

    class Slow:
        def describe_cluster(self, **_: object) -> Future[Any]:
            answer: Future[Any] = Future()
            threading.Timer(delay_s[0], lambda: answer.set_result(SimpleNamespace(cluster_id="c"))).start()
            return answer

        def poll(self, _: float) -> int:
            return 0

    admin._client = Slow()  # type: ignore[assignment]
    admin._trouble.heard(REFUSED)
    assert admin.cluster_id() == "c"
    delay_s[0] = 0.5  # longer than the admin waits before it looks at what it has heard
    assert admin.cluster_id() == "c"
    admin._trouble.heard(REFUSED)
    assert admin.cluster_id() == "c"
