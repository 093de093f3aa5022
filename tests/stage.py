"""Operators and triggers without Airflow's own processes: connections in the environment, a context with what is read of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from world import World

from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator

KAFKA, LEDGER, ZOOKEEPER, CHANNEL = (
    "kafka_test",
    "kafka_exactly_ledger",
    "kafka_exactly_zookeeper",
    "kafka_exactly_channel",
)

EXAMPLES: dict[str, dict[str, Any]] = {
    "kafka_exactly_ledger": {
        "conn_type": "postgres",
        "host": "db",
        "schema": "kx",
        "login": "me",
        "password": "pw",
    },
    "kafka_exactly_zookeeper": {"conn_type": "generic", "host": "zk1:1,zk2", "extra": {"root": "/kx"}},
    "kafka_exactly_channel": {"conn_type": "generic", "password": "0123456789abcdef"},
    "my_kafka": {"conn_type": "kafka", "extra": {"bootstrap.servers": "broker:9092", "group.id": "theirs"}},
}
"""Of services that nobody runs."""


def connections(world: World) -> dict[str, dict[str, Any]]:
    """As a user would define them, for the services of this world."""
    ledger = psycopg.conninfo.conninfo_to_dict(world.services.ledger.conninfo)
    return {
        KAFKA: {"conn_type": "kafka", "extra": {"bootstrap.servers": world.kafka}},
        LEDGER: {
            "conn_type": "postgres",
            "host": ledger["host"],
            "port": int(ledger["port"]),
            "login": ledger["user"],
            "password": ledger["password"],
            "schema": ledger["dbname"],
        },
        ZOOKEEPER: {
            "conn_type": "generic",
            "host": world.services.election.hosts,
            "extra": {"root": world.services.election.root},
        },
        CHANNEL: {"conn_type": "generic", "password": world.services.channel.secret},
    }


def define(monkeypatch: pytest.MonkeyPatch, defined: dict[str, dict[str, Any]]) -> None:
    for conn_id, fields in defined.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def configure(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    for option, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__KAFKA_EXACTLY__{option.upper()}", str(value))


def operator(world: World, **arguments: Any) -> KafkaExactlyOnceOperator:
    given = {"group_id": world.group, "topics": [world.topic], "kafka_config_id": KAFKA, **arguments}
    if "apply_function_batch" not in given:
        given.setdefault("apply_function", "applied.apply")
    return KafkaExactlyOnceOperator(task_id="consume", **given)


def context(run_id: str = "run") -> dict[str, Any]:
    return {"ti": SimpleNamespace(dag_id="dag", task_id="consume", run_id=run_id, map_index=-1, try_number=1)}
