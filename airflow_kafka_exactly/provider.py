"""The provider's description, which Airflow reads in every process: plain data, nothing is imported for it."""

from __future__ import annotations

from typing import Any

INTEGRATION = "Apache Kafka, exactly once"


def get_provider_info() -> dict[str, Any]:
    """What the entry point `apache_airflow_provider` names."""
    return {
        "package-name": "airflow-kafka-exactly",
        "name": INTEGRATION,
        "description": "Kafka records consumed by Airflow, each with its effect exactly once.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://kafka.apache.org/",
                "tags": ["apache"],
            }
        ],
        "operators": [_modules("operators", "evidence_tasks")],
        "triggers": [_modules("triggers", "evidence_trigger")],
        "hooks": [_modules("hooks")],
        "cli": ["airflow_kafka_exactly.cli.get_commands"],
        "config": {
            "kafka_exactly": {
                "description": "Where the ledger, ZooKeeper and the channel are, and how long leases last.",
                "options": _options(),
            }
        },
    }


def _modules(*names: str) -> dict[str, Any]:
    modules = [f"airflow_kafka_exactly.{name}" for name in names]
    return {"integration-name": INTEGRATION, "python-modules": modules}


def _options() -> dict[str, dict[str, Any]]:
    return {**_places(), **_times(), **_leading()}


def _places() -> dict[str, dict[str, Any]]:
    text = "string"
    return {
        "ledger_conn_id": _option(
            text,
            "kafka_exactly_ledger",
            "A postgres connection: the ledger's database. host, port, login, password, schema (the database's name), and libpq\n"
            "options such as sslmode in extra.",
        ),
        "ledger_schema": _option(
            text, "kafka_exactly", "The PostgreSQL schema that holds the ledger's tables."
        ),
        "ledger_pool_size": _option(
            "integer",
            "4",
            "Connections to the ledger that one process opens at most; as many again for effects in the ledger's transaction.",
        ),
        "zookeeper_conn_id": _option(
            text,
            "kafka_exactly_zookeeper",
            'Where ZooKeeper is: host is zk1:2181,zk2:2181; extra may hold {"root", "session_timeout_s", "trust_s"}.',
        ),
        "channel_conn_id": _option(
            text,
            "kafka_exactly_channel",
            "How members, leader and standbys talk: the password is their shared secret (16 characters or more); extra may hold\n"
            '{"bind", "advertise", "port", "tls_certificate_file", "tls_key_file", "tls_ca_file"}.',
        ),
        "kafka_conn_id": _option(
            text,
            "kafka_default",
            "The kafka connection of commands, and of a leader that has not consumed from a group's cluster itself.",
        ),
    }


def _times() -> dict[str, dict[str, Any]]:
    seconds = "float"
    return {
        "lease_s": _option(
            seconds, "20.0", "How many seconds a life may start records, by the ledger's clock."
        ),
        "lease_margin_s": _option(
            seconds,
            "8.0",
            "A life stops so many seconds before its lease ends, counted from when it asked for it.",
        ),
        "renew_every_s": _option(seconds, "3.0", "Seconds between two renewals of a lease."),
        "effect_timeout_s": _option(
            seconds,
            "10.0",
            "A call that was under way when its worker died is over so many seconds after the lease's end: only then the\n"
            "check's answer counts. An operator may set its own.",
        ),
        "fence_grace_s": _option(
            seconds,
            "6.0",
            "A leader that has just reached the ledger waits so many seconds before it fences lives.",
        ),
    }


def _leading() -> dict[str, dict[str, Any]]:
    return {
        "worker_contends": _option(
            "boolean",
            "False",
            "Whether a worker that consumes contends for leadership too: for a laptop or `dag.test()`, where no coordinator\n"
            "and no triggerer runs.",
        ),
        "filter_capacity": _option(
            "integer", "1000000", "Ids that one generation of a consumer group's Bloom filter holds."
        ),
        "filter_error_rate": _option(
            "float", "0.001", "The filter's rate of false positives, each of which asks the ledger."
        ),
    }


def _option(kind: str, default: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": None,
        "default": default,
    }
