"""The one place where Airflow's connections and configuration become Settings. Never in the triggerer's event loop: our triggers
ask in their threads, where Airflow's clients may wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_kafka_exactly import connections
from airflow_kafka_exactly.connections import ConnectionLike
from airflow_kafka_exactly.errors import ConfigurationError, ConnectionMissing, Unavailable
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.settings import (
    ElectionSettings,
    FilterSettings,
    KafkaSettings,
    LeaseSettings,
    LedgerSettings,
    ServiceSettings,
)

SECTION = "kafka_exactly"


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service's connection id is configured, and how such a connection is made."""

    name: str
    option: str
    default: str
    example: str

    @property
    def conn_id(self) -> str:
        return str(conf.get(SECTION, self.option, fallback=self.default) or self.default)

    def missing(self, conn_id: str) -> ConnectionMissing:
        where = f"[{SECTION}] {self.option}" if self.option else "kafka_config_id"
        return ConnectionMissing(
            f"{self.name}: connection {conn_id!r} ({where}) is not defined. Create it: "
            f"airflow connections add {conn_id} {self.example}"
        )


LEDGER = Service(
    "PostgreSQL (the ledger)",
    "ledger_conn_id",
    "kafka_exactly_ledger",
    "--conn-type postgres --conn-host HOST --conn-schema DATABASE --conn-login USER --conn-password PASSWORD",
)
ZOOKEEPER = Service(
    "ZooKeeper",
    "zookeeper_conn_id",
    "kafka_exactly_zookeeper",
    "--conn-type generic --conn-host zk1:2181,zk2:2181",
)
CHANNEL = Service(
    "the channel",
    "channel_conn_id",
    "kafka_exactly_channel",
    "--conn-type generic --conn-password SHARED_SECRET",
)
KAFKA = Service(
    "Kafka",
    "kafka_conn_id",
    "kafka_default",
    """--conn-type kafka --conn-extra '{"bootstrap.servers": "HOST:9092"}'""",
)


_found: set[str] = set()
"""Connections that this process has read: Airflow says "not found" also when it cannot ask its server, and what was there before
is not taken for a mistake."""


def _connection(service: Service, conn_id: str) -> ConnectionLike:
    try:
        found: ConnectionLike = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        missing = service.missing(conn_id)
        if conn_id in _found:
            raise Unavailable("Airflow", f"connection {conn_id!r}", missing) from None
        raise missing from None
    except Exception as unread:  # access denied, a key that does not decrypt it, an error of Airflow's server
        raise Unavailable("Airflow", f"connection {conn_id!r}", told(unread)) from unread
    _found.add(conn_id)
    return found


# -- the services of this package --------------------------------------------------------------------------------------


def ledger_settings() -> LedgerSettings:
    return _ledger(_connection(LEDGER, LEDGER.conn_id))


def election_settings() -> ElectionSettings:
    return connections.election_settings(_connection(ZOOKEEPER, ZOOKEEPER.conn_id))


def service_settings() -> ServiceSettings:
    """Everything about ledger, ZooKeeper and channel; ConfigurationError names the service, connection and field."""
    return _services({s: _connection(s, s.conn_id) for s in (LEDGER, ZOOKEEPER, CHANNEL)})


def worker_contends() -> bool:
    """Whether a worker is a contender for leadership too."""
    return bool(conf.getboolean(SECTION, "worker_contends", fallback=False))


def lease_settings() -> LeaseSettings:
    names = {
        "lease_s": "lease_s",
        "lease_margin_s": "margin_s",
        "renew_every_s": "renew_every_s",
        "effect_timeout_s": "effect_timeout_s",
        "fence_grace_s": "fence_grace_s",
    }
    return LeaseSettings(**_numbers(names))


def _services(found: Mapping[Service, ConnectionLike]) -> ServiceSettings:
    numbers = _numbers({"filter_capacity": "capacity", "filter_error_rate": "error_rate"})
    if "capacity" in numbers:
        numbers["capacity"] = int(numbers["capacity"])
    return ServiceSettings(
        ledger=_ledger(found[LEDGER]),
        election=connections.election_settings(found[ZOOKEEPER]),
        channel=connections.channel_settings(found[CHANNEL]),
        lease=lease_settings(),
        filter=FilterSettings(**numbers),
    )


def _ledger(found: ConnectionLike) -> LedgerSettings:
    schema = conf.get(SECTION, "ledger_schema", fallback=None)
    pool = {name: int(size) for name, size in _numbers({"ledger_pool_size": "pool_max"}).items()}
    return connections.ledger_settings(found, **({"schema": schema} if schema else {}), **pool)


def _numbers(names: Mapping[str, str]) -> dict[str, Any]:
    """The options that are set, by the names that the settings use; what is not set keeps the settings' own defaults."""
    numbers: dict[str, Any] = {}
    for option, name in names.items():
        value = conf.get(SECTION, option, fallback=None)
        if value in (None, ""):
            continue
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ConfigurationError(f"[{SECTION}] {option} = {value!r} is no number") from None
    return numbers


# -- Kafka -------------------------------------------------------------------------------------------------------------


def kafka_settings(
    kafka_config_id: str, group_id: str, topics: Sequence[str], **options: Any
) -> KafkaSettings:
    """A group's settings from the Kafka provider's connection type; `options` are fields of KafkaSettings.

    An empty `group_id` means the connection's own `group.id`.
    """
    return _kafka(_connection(_kafka_service(), kafka_config_id), group_id, topics, options)


def kafka_client_config(kafka_config_id: str = "") -> dict[str, Any]:
    """librdkafka's configuration without a group, for administration; the default is `[kafka_exactly] kafka_conn_id`."""
    return _resolved(_connection(KAFKA, kafka_config_id or KAFKA.conn_id))


def _kafka_service() -> Service:
    return Service(KAFKA.name, "", KAFKA.default, KAFKA.example)


def _kafka(
    found: ConnectionLike, group_id: str, topics: Sequence[str], options: Mapping[str, Any]
) -> KafkaSettings:
    config = _resolved(found)
    return KafkaSettings(
        connection=found.conn_id,
        config=config,
        group_id=group_id or str(config.get("group.id", "")),
        topics=(topics,) if isinstance(topics, str) else tuple(topics),
        **options,
    )


def _resolved(found: ConnectionLike) -> dict[str, Any]:
    """With callbacks and cloud tokens as the provider's own hook resolves them, so that existing connections work."""
    from airflow.providers.apache.kafka.hooks.base import KafkaBaseHook

    class ConfigOnly(KafkaBaseHook):
        def get_connection(self, conn_id: str) -> Any:  # type: ignore[override]
            return SimpleNamespace(conn_id=conn_id, extra_dejson=connections.kafka_config(found))

        def _get_client(self, config: Any) -> Any:
            return config

    try:
        config: dict[str, Any] = ConfigOnly(found.conn_id).get_conn  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise connections.Source("Kafka", found).problem("extra", str(error)) from error
    return config
