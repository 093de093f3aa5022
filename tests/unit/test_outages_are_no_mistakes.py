"""What once worked in this process and does not any more is an outage, whatever the error says."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError

from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.adapters.kafka import trouble as kafka_trouble
from airflow_kafka_exactly.adapters.kafka.trouble import Trouble
from airflow_kafka_exactly.adapters.postgres import pool, schema
from airflow_kafka_exactly.errors import ConfigurationError, PeerRefused, SchemaTooNew, Unavailable
from airflow_kafka_exactly.runtime.voting import LeaderFinder
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
    monkeypatch.setattr(pool, "_served", set())
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


@pytest.mark.parametrize("sqlstate", ["42501", "3F000", "42P01", "42883"])
def test_what_a_ledger_misses_that_has_served_is_an_outage(sqlstate: str) -> None:
    """A right that is just being changed, a migration or a restore under way, a standby that lags behind."""
    database: Any = object.__new__(pool.Database)
    database.settings = LEDGER
    missing = psycopg.errors.lookup(sqlstate)("missing")
    assert isinstance(database.translate(missing), ConfigurationError), "of a process that has just started"
    pool.note_served(LEDGER)
    assert isinstance(database.translate(missing), Unavailable)
    database.settings = replace(LEDGER, schema="another")
    assert isinstance(database.translate(missing), ConfigurationError), "this one has never served"


@pytest.mark.parametrize("found", [(None, 2, 2), (1, 2, 2), (99, 1, 1)], ids=["none", "old", "old functions"])
def test_a_ledger_that_is_behind_and_was_not_before_is_away(
    found: tuple[int | None, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: tuple[int | None, int, int] = (schema.newest_version(), schema.FUNCTIONS, schema.SERVES_FROM)
    database: Any = SimpleNamespace(settings=LEDGER, run=lambda _: answers.pop(0))
    answers = [found, there, found, (schema.newest_version(), 99, 99)]
    with pytest.raises(ConfigurationError, match="migrate"):
        schema.check_schema(database)
    schema.check_schema(database)
    with pytest.raises(Unavailable, match="my_ledger"):
        schema.check_schema(database)
    with pytest.raises(SchemaTooNew):  # nothing but an upgrade of this installation mends that
        schema.check_schema(database)


def test_a_leader_with_another_secret_is_waited_for_by_a_member_that_was_heard_before() -> None:
    """The secret is changed: leaders are started again, one after the other, and then the workers."""
    link: Any = SimpleNamespace(alive=True, hello=lambda _: 7, close=lambda: None)
    links: list[Any] = [PeerRefused("another secret"), link, PeerRefused("another secret"), link]

    def connect(*_: object) -> Any:
        found = links.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    finder = LeaderFinder(
        SimpleNamespace(leader_address=lambda: "10.0.0.7:1"),  # type: ignore[arg-type]
        SimpleNamespace(link=connect),  # type: ignore[arg-type]
        SimpleNamespace(life=SimpleNamespace(slot="s"), cluster_id="c"),  # type: ignore[arg-type]
    )
    with pytest.raises(PeerRefused):
        finder.link(())
    assert finder.link(()) is link
    finder.drop()
    with pytest.raises(Unavailable, match=r"10\.0\.0\.7:1.*another secret"):
        finder.link(())
    assert finder.link(()) is link


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
