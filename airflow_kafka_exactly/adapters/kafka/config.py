"""A Kafka connection's configuration: refused where it would lose or repeat records, completed where it is silent (case 3).

The connection belongs to the user and may serve other consumers too, so only what is unsafe is refused; what is only
different (`session.timeout.ms`) is replaced with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from airflow_kafka_exactly.errors import ConfigurationError, UnsafeConnection
from airflow_kafka_exactly.settings import KafkaSettings

log = logging.getLogger(__name__)

RESET_TO_EARLIEST: Final = frozenset({"earliest", "beginning", "smallest"})
RESET_TO_LATEST: Final = frozenset({"latest", "end", "largest"})
RESET_REFUSED: Final = frozenset({"error", "none"})
"""Legal for librdkafka: a partition without a committed offset is then an error (and so it is here)."""

REFRESH_MS: Final = 10_000
"""So often each member asks one broker what its topics are: a request of some hundred bytes, for a thousand waiting triggers a
hundred a second in the whole cluster."""

QUEUED_RECORD_BYTES: Final = 1024
"""What the client may take for a record in its queue beside the value: 330 to 350 bytes (measured with librdkafka 2.16), and the
key and headers, which it does not count."""

ANSWER_BYTES: Final = 1_000_000
"""The most that one answer of a broker holds; the client, whose `message.max.bytes` is the stock one, accepts no less. The first
batch passes whole, however large it is."""

ANSWER_MIN_BYTES: Final = 16 * 1024
"""The least that is asked for of each partition: 64 kB of memory for each kB would be 1 MiB."""

_TRUE: Final = frozenset({"true", "t", "1", "yes", "on"})

_CONSUMER_ONLY: Final = (
    *("group.", "session.timeout.", "heartbeat.", "max.poll.", "enable.auto.", "auto.", "queued.", "fetch."),
    *(
        "max.partition.fetch.",
        "isolation.level",
        "enable.partition.eof",
        "check.crcs",
        "partition.assignment.",
    ),
    *(
        "offset.store.",
        "consume.",
        "on_commit",
        "default.topic.config",
        "error_cb",
        "stats_cb",
        "throttle_cb",
        "logger",
    ),
)
"""Prefixes that the admin client does not know, or that belong to the consumer alone."""


def text(value: object) -> str:
    """A configuration value as librdkafka reads it."""
    return str(value).strip().lower()


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """The old nested `default.topic.config` is read like the rest: what is unsafe there is as unsafe."""
    flat = {key: value for key, value in config.items() if key != "default.topic.config"}
    nested = config.get("default.topic.config")
    return {**nested, **flat} if isinstance(nested, Mapping) else flat


class _Check:
    """Everything that is refused, one method for each reason."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings, self.config = settings, flattened(settings.config)

    def _refuse(self, key: str, why: str) -> None:
        raise UnsafeConnection(
            f"Kafka connection {self.settings.connection!r} sets {key}={self.config[key]!r}: {why} "
            f"Remove {key} from the connection's extra."
        )

    def servers(self) -> None:
        if not (self.config.get("bootstrap.servers") or self.config.get("metadata.broker.list")):
            raise ConfigurationError(
                f"Kafka connection {self.settings.connection!r} names no broker: set bootstrap.servers "
                '("host:port,host:port") in its extra'
            )

    def switches(self) -> None:
        reasons = {
            "enable.auto.commit": "offsets would be committed before their records have had their effect, and lost.",
            "auto.commit.enable": "offsets would be committed before their records have had their effect, and lost.",
            "enable.auto.offset.store": "offsets of records that were only polled would be committed.",
        }
        for key, why in reasons.items():
            if key in self.config and text(self.config[key]) in _TRUE:
                self._refuse(key, why + " The operator commits each offset itself, after the effect.")

    def membership(self) -> None:
        if text(self.config.get("group.protocol", "classic")) != "classic":
            self._refuse(
                "group.protocol",
                "with it a crashed static member cannot be replaced until its session ends (measured: 42 s, and fatal for "
                "the client that tries), so a worker could not take over from its trigger.",
            )
        strategy = text(self.config.get("partition.assignment.strategy", "cooperative-sticky"))
        if strategy != "cooperative-sticky":
            self._refuse(
                "partition.assignment.strategy",
                "only cooperative-sticky lets a member keep working on the partitions that it keeps in a rebalance.",
            )
        if self.config.get("group.id", self.settings.group_id) != self.settings.group_id:
            self._refuse("group.id", f"the operator's group_id is {self.settings.group_id!r}.")

    def identity(self, slot: str) -> None:
        if self.config.get("group.instance.id", slot) != slot:
            self._refuse(
                "group.instance.id",
                f"two tasks would fence each other; the operator uses its slot, {slot!r}.",
            )

    def isolation(self) -> None:
        if text(self.config.get("isolation.level", "read_committed")) != "read_committed":
            self._refuse("isolation.level", "records of aborted transactions would have their effect.")

    def reset(self) -> None:
        policy = reset_policy(self.config)
        if policy in RESET_TO_LATEST:
            self._refuse(
                "auto.offset.reset",
                "the records that a new partition gets before this group first sees it would be skipped. To begin at the end of "
                "a topic, set the group's offsets once (kafka-consumer-groups.sh --reset-offsets --to-latest) and give the "
                "operator adopt_offsets=True.",
            )
        if policy not in RESET_TO_EARLIEST | RESET_REFUSED:
            raise ConfigurationError(
                f"Kafka connection {self.settings.connection!r} sets auto.offset.reset={policy!r}: "
                "choose earliest or error"
            )

    def topics(self) -> None:
        for topic in self.settings.topics:
            if topic.startswith("^"):
                raise ConfigurationError(f"topics={topic!r}: patterns are not supported, name each topic")


def check(settings: KafkaSettings, slot: str | None = None) -> None:
    """Refuse an unsafe or incomplete connection. Asks nobody; call it as early as you like.

    Raises `UnsafeConnection` or `ConfigurationError` with the key and what to do.
    """
    checks = _Check(settings)
    checks.servers()
    checks.switches()
    checks.membership()
    checks.isolation()
    checks.reset()
    checks.topics()
    if slot is not None:
        checks.identity(slot)


def reset_policy(config: Mapping[str, Any]) -> str:
    """Where to begin without a committed offset: "earliest" when the connection does not say."""
    return text(flattened(config).get("auto.offset.reset", "earliest"))


def consumer_config(settings: KafkaSettings, slot: str) -> dict[str, Any]:
    """librdkafka's configuration for one member, checked and completed.

    `session.timeout.ms` is the operator's `session_timeout_s` always, because the trust window and the lease were checked
    against that; a different value in the connection is replaced and a warning names both. `max.poll.interval.ms` is the
    user's: polling goes on while user code runs.
    """
    check(settings, slot)
    config = flattened(settings.config)
    # (A producer's largest message is nothing to a consumer, but its client wants answers to be at least as large.)
    for key in ("auto.commit.enable", "on_commit", "logger", "message.max.bytes"):
        config.pop(key, None)
    config.setdefault("client.id", slot)
    # The stock 1000 ms between two looks at a full queue caps a Python consumer at about 220,000 records a second.
    config.setdefault("fetch.queue.backoff.ms", 10)
    if (same := config.pop("max.partition.fetch.bytes", None)) is not None:
        config.setdefault("fetch.message.max.bytes", same)
    for key, value in _fetched_ahead(settings.prefetch_max_bytes).items():
        config.setdefault(key, value)
    # The stock 300 s would leave partitions that a topic gets later idle for so long, and `until="end"` waiting for them.
    config.setdefault("topic.metadata.refresh.interval.ms", REFRESH_MS)
    # An offset commit or a lookup waits for one request; librdkafka's 60 s would hold a revoke up for as long.
    config.setdefault("socket.timeout.ms", int(settings.request_timeout_s * 1000))
    config.update(
        {
            "group.id": settings.group_id,
            "group.instance.id": slot,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # Positions are always given. Should the log not hold one any more, the client must ask instead of jumping:
            # a jump would count the records in between as a gap (L2).
            "auto.offset.reset": "error",
            **_timing(settings, config),
        }
    )
    return config


def _fetched_ahead(limit_bytes: int) -> dict[str, int]:
    """What the client has fetched ahead takes at most `limit_bytes` of memory, in addition to the same in hand.

    The client asks a broker for more while its queue is below both limits, so that an answer of each broker comes on top, and it
    counts values alone. A poll copies what it takes, before the hand is full and the client refills: a quarter is for that.
    """
    quarter = limit_bytes // 4
    return {
        "queued.max.messages.kbytes": max(1, quarter // 1024),
        "queued.min.messages": max(1, quarter // QUEUED_RECORD_BYTES),
        "fetch.max.bytes": ANSWER_BYTES,
        "fetch.message.max.bytes": min(ANSWER_BYTES, max(ANSWER_MIN_BYTES, limit_bytes // 64)),
    }


def _timing(settings: KafkaSettings, config: Mapping[str, Any]) -> dict[str, int]:
    session = int(settings.session_timeout_s * 1000)
    given = config.get("session.timeout.ms")
    if given is not None and text(given) != str(session):
        log.warning(
            "Kafka connection %r sets session.timeout.ms=%s; the operator's session_timeout_s=%s is used instead",
            *(settings.connection, given, settings.session_timeout_s),
        )
    poll = _milliseconds(settings, "max.poll.interval.ms", config.get("max.poll.interval.ms", 300_000))
    if poll < session:
        raise ConfigurationError(
            f"Kafka connection {settings.connection!r} sets max.poll.interval.ms={poll}, below the session timeout of "
            f"{session} ms: Kafka's client refuses that. Raise it, or lower session_timeout_s."
        )
    beat = _milliseconds(settings, "heartbeat.interval.ms", config.get("heartbeat.interval.ms", session))
    # A member hears of a rebalance with its next heartbeat: Kafka's stock 3 s would be the pause of every rebalance.
    return {"session.timeout.ms": session, "heartbeat.interval.ms": min(beat, session // 10, 1500)}


def _milliseconds(settings: KafkaSettings, key: str, value: object) -> int:
    try:
        return int(text(value))
    except ValueError:
        raise ConfigurationError(
            f"Kafka connection {settings.connection!r} sets {key}={value!r}: a number of milliseconds, please"
        ) from None


def admin_config(config: Mapping[str, Any], request_timeout_s: float) -> dict[str, Any]:
    """The part of a connection that an admin client understands (brokers and security)."""
    flat = {key: value for key, value in flattened(config).items() if not key.startswith(_CONSUMER_ONLY)}
    flat.setdefault("socket.timeout.ms", int(request_timeout_s * 1000))
    return flat
