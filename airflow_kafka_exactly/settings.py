"""Settings, grouped by concern. They are passed in, never looked up; limits that depend on each other are checked here.

The units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes`, `_records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_kafka_exactly.errors import ConfigurationError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where Kafka is, and how one consumer group is read."""

    connection: str
    """The Airflow connection (`kafka_config_id`) that `config` comes from; named in every error."""
    config: Mapping[str, Any] = field(repr=False)
    """librdkafka's configuration, checked and completed by the Kafka adapter."""
    group_id: str
    topics: tuple[str, ...]
    session_timeout_s: float = 15.0
    """How long Kafka keeps a silent member's partitions. A deferral leaves the slot empty for 1 to 3 s each way."""
    prefetch_max_bytes: int = 64 * 1024 * 1024
    """Polling pauses when the records in hand, not yet claimed, take so much memory; one that is larger passes alone. What
    Kafka's client has fetched ahead comes in addition: at most as much again."""
    request_timeout_s: float = 10.0
    adopt_offsets: bool = False
    """Take over a group whose committed offsets were written by a plain consumer."""
    on_lost_records: str = "fail"
    """Offsets that retention deleted before they were read: "fail", or "skip" (recorded in the ledger)."""

    def __post_init__(self) -> None:
        _require(bool(self.group_id), "group_id is empty: give the consumer group a name")
        _require(bool(self.topics), "topics is empty: name at least one topic")
        _require(
            6 <= self.session_timeout_s <= 45,
            f"session_timeout_s={self.session_timeout_s}: choose 6 to 45 s (15 or more where tasks are deferred)",
        )
        _require(self.prefetch_max_bytes > 0, "prefetch_max_bytes must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Where the ledger is."""

    connection: str
    conninfo: str = field(repr=False)
    """A libpq connection string; it holds the password."""
    schema: str = "kafka_exactly"
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 5.0
    pool_max: int = 4

    def __post_init__(self) -> None:
        _require(
            self.schema.isidentifier()
            and len(self.schema.encode()) <= 63
            and not self.schema.startswith("pg_"),
            f"ledger_schema {self.schema!r}: letters, digits and underscores, at most 63 bytes, not beginning with pg_",
        )
        _require(
            self.schema == self.schema.lower(),
            f"ledger_schema {self.schema!r}: in lower case, please. (Version 0.1.0 took it for {self.schema.lower()!r}.)",
        )
        _require(
            self.pool_max >= 2,
            f"ledger_pool_size={self.pool_max}: at least 2, so that leases are renewed meanwhile",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionSettings:
    """Where ZooKeeper is, and how long a leader believes in itself without hearing from it."""

    connection: str
    hosts: str
    """`host:port,host:port`, without a path."""
    root: str = "/kafka-exactly"
    session_timeout_s: float = 6.0
    trust_s: float = 4.0
    """Counted from the *sending* of the last successful write of its own node, never from the answer."""
    connect_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        _require(bool(self.hosts), f"connection {self.connection!r} names no ZooKeeper host")
        _require(
            0 < self.trust_s < self.session_timeout_s,
            f"trust_s={self.trust_s} must be below the ZooKeeper session timeout {self.session_timeout_s}: otherwise two "
            "leaders believe in themselves at once",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """The gRPC channel between members, leader and standbys."""

    connection: str
    secret: str = field(repr=False)
    """Shared by every caller of the channel; at least 16 characters."""
    bind: str = "127.0.0.1"
    advertise: str = ""
    """The host name that other machines reach this one by; `bind` when empty."""
    port: int = 0
    """0 lets the system choose."""
    call_timeout_s: float = 5.0
    keepalive_s: float = 2.0
    standby_ack_timeout_s: float = 1.0
    """A standby that does not acknowledge an addition in this time must resync its whole filter."""
    tls_certificate: bytes | None = field(default=None, repr=False)
    tls_key: bytes | None = field(default=None, repr=False)
    tls_ca: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require(
            len(self.secret) >= 16,
            f"connection {self.connection!r}: the password is the channel's shared secret and needs 16 characters or more",
        )
        _require(
            (self.tls_certificate is None) == (self.tls_key is None),
            f"connection {self.connection!r}: a TLS certificate and its key come together",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How long a life may start records, and how certain we are that it has stopped."""

    lease_s: float = 20.0
    """By the ledger's clock, from the ledger's answer."""
    margin_s: float = 8.0
    """The life itself stops so much earlier, counted from when it *asked*."""
    renew_every_s: float = 3.0
    effect_timeout_s: float = 10.0
    """A check's "no" counts only so long after the lease's end: what was already under way in the target is over by then."""
    fence_grace_s: float = 6.0
    """A leader that has just (re)gained the ledger waits so long, so that lives can renew, before it fences any."""

    def __post_init__(self) -> None:
        _require(
            0 < self.renew_every_s * 2 < self.trust_s,
            f"renew_every_s={self.renew_every_s} is too long for a trust window of {self.trust_s} s: renew at least twice in it",
        )

    @property
    def trust_s(self) -> float:
        """The trust window: the lease as the life itself may count it."""
        return self.lease_s - self.margin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSettings:
    """The leader's Bloom filter, one for each consumer group."""

    capacity: int = 1_000_000
    error_rate: float = 0.001

    def __post_init__(self) -> None:
        _require(self.capacity >= 1000, f"filter capacity {self.capacity}: at least 1000 ids")
        _require(0 < self.error_rate <= 0.1, f"filter error_rate {self.error_rate}: above 0, at most 0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What every part that talks to the ledger, ZooKeeper and other processes needs; one per process."""

    ledger: LedgerSettings
    election: ElectionSettings
    channel: ChannelSettings
    lease: LeaseSettings = LeaseSettings()
    filter: FilterSettings = FilterSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """How one member works through its partitions."""

    slot: str
    """`dag_id.task_id[map_index]`, the member's `group.instance.id`."""
    owner: str
    """The task instance (without its try number) that this slot works for: a retry of the same one takes over."""
    dag_id: str = ""
    task_id: str = ""
    """The task, which owns its consumer group: no other task may work in it."""
    kafka: KafkaSettings
    lease: LeaseSettings = LeaseSettings()
    max_batch_records: int = 1000
    max_batch_wait_s: float = 1.0
    """How long polling waits for a batch to fill once its first record is there."""
    effect_timeout_s: float = 10.0
    """After an exception the check's "no" counts only so much later: what was under way in the target is over by then."""
    window_s: float = 0.2
    """About so much work is marked started ahead of the function."""
    revoke_budget_s: float = 5.0
    """A revoked partition waits at most so long for the record in hand."""
    max_attempts: int = 3
    """How often a record that provably had no effect is tried before it becomes a dead letter."""
    retry_delay_s: float = 1.0
    """After a record's first failure; doubles from try to try, up to a minute."""
    outage_grace_s: float = 600.0
    """While everything fails, a record becomes a dead letter only when its tries span so long."""

    def __post_init__(self) -> None:
        _require(self.max_batch_records >= 1, f"max_batch_size={self.max_batch_records}: at least 1")
        _require(self.max_attempts >= 1, f"max_attempts={self.max_attempts}: at least 1")
        _require(self.retry_delay_s >= 0, f"record_retry_delay={self.retry_delay_s}: 0 s or more")
        _require(self.outage_grace_s >= 0, f"outage_grace={self.outage_grace_s}: 0 s or more")
        _require(
            self.lease.trust_s < self.kafka.session_timeout_s,
            f"the trust window ({self.lease.trust_s} s) must be shorter than Kafka's session timeout "
            f"({self.kafka.session_timeout_s} s): a frozen member must stop before its partitions move",
        )
