"""Kafka's own errors, named in ours: which of the services, which connection, and what to do (case 21)."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from airflow_kafka_exactly.errors import (
    ConfigurationError,
    Fenced,
    GroupInUse,
    KafkaExactlyError,
    Unavailable,
)

log = logging.getLogger(__name__)
T = TypeVar("T")


def _codes(*names: str) -> frozenset[int]:
    return frozenset(getattr(KafkaError, name) for name in names if hasattr(KafkaError, name))


_CREDENTIALS: Final = _codes(
    "_AUTHENTICATION",
    "_SSL",
    "SASL_AUTHENTICATION_FAILED",
    "UNSUPPORTED_SASL_MECHANISM",
    "ILLEGAL_SASL_STATE",
)
_FORBIDDEN: Final = _codes(
    "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"
)
_WRONG: Final = _codes(
    *(
        "INVALID_GROUP_ID",
        "INVALID_SESSION_TIMEOUT",
        "GROUP_MAX_SIZE_REACHED",
        "TOPIC_EXCEPTION",
        "INVALID_REQUEST",
    ),
    *("UNSUPPORTED_VERSION", "_INVALID_ARG", "_UNSUPPORTED_FEATURE", "_NOT_IMPLEMENTED", "INVALID_CONFIG"),
)
_OTHER_PROTOCOL: Final = _codes("INCONSISTENT_GROUP_PROTOCOL")
_FENCED: Final = _codes(
    "_FATAL", "_FENCED", "FENCED_INSTANCE_ID"
)  # KafkaError.fatal() may say False for `_FATAL`
_CORRUPT: Final = _codes("_BAD_MSG", "_BAD_COMPRESSION", "INVALID_MSG", "INVALID_MSG_SIZE", "INVALID_RECORD")
_SHORTAGE: Final = _codes("_CRIT_SYS_RESOURCE")
"""The machine has no thread left, which no setting mends."""
_OUT_OF_RANGE: Final = _codes("_AUTO_OFFSET_RESET", "_LOG_TRUNCATION", "OFFSET_OUT_OF_RANGE")
_ODD_TOPIC: Final = _codes(
    "UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC_ID", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"
)
_TELLING: Final = _codes("_RESOLVE", "_TRANSPORT") | _CREDENTIALS
"""What says why nobody answers; `_ALL_BROKERS_DOWN` and `_TIMED_OUT` only say that."""

_QUIET_S: Final = 30.0
"""A broker that is away is tried several times a second; each kind of news is logged so often."""


_worked: set[str] = set()
"""What brokers have answered this process with: credentials that were good once and are refused now are an outage (a broker
whose cache is stale, a directory that is away), which passes, and ends nobody who works."""


class Trouble:
    """What was last heard of the brokers, and the error that follows from it."""

    def __init__(
        self,
        connection: str,
        config: Mapping[str, Any],
        also: Callable[[KafkaError], Any] | None = None,
    ) -> None:
        self.connection = connection
        self.served = False
        """By a consumer that has been given its partitions: what is forbidden from then on was allowed before."""
        self._login = _login(connection, config)
        self._also = also
        self._last: KafkaError | None = None
        self._logged: dict[int, float] = {}

    def heard(self, error: KafkaError) -> None:
        """The client's `error_cb`: news of the brokers, most of which pass by themselves."""
        if error.code() in _TELLING:
            self._last = error
        now = time.monotonic()
        if now - self._logged.get(error.code(), float("-inf")) > _QUIET_S:
            self._logged[error.code()] = now
            log.warning("Kafka (connection %r): %s", self.connection, error.str())
        if self._also is not None:
            self._also(error)

    def all_well(self) -> None:
        """A broker has answered."""
        self._last = None
        _worked.add(self._login)

    def raise_hopeless(self) -> None:
        """Credentials that were never good stay wrong."""
        if self._last is not None and self._hopeless(self._last.code()):
            raise self.error(self._last)

    def _hopeless(self, code: int) -> bool:
        return code in _CREDENTIALS and self._login not in _worked

    def unavailable(self, error: KafkaError | None) -> KafkaExactlyError:
        """Nobody answered, or not in time."""
        if self._last is not None and self._hopeless(self._last.code()):
            return self.error(self._last)
        told = self._last or error
        detail = told.str() if told is not None else "no answer in time"
        if error is not None and told is not error:
            detail = f"{error.str()} ({detail})"
        return Unavailable("Kafka", f"connection {self.connection!r}, bootstrap.servers", detail)

    def error(self, error: KafkaError) -> KafkaExactlyError:
        """Kafka's error as one of ours."""
        code, kafka = error.code(), f"Kafka (connection {self.connection!r})"
        if code in _FENCED:
            return Fenced(f"{kafka}: another process works in this slot now: {error.str()}")
        if self._hopeless(code):
            return ConfigurationError(
                f"{kafka} refuses the credentials: correct security.protocol, sasl.* or ssl.* in its extra ({error.str()})"
            )
        if code in _FORBIDDEN and not self.served:
            return ConfigurationError(
                f"{kafka} forbids it: the user of this connection needs read access to the topics and the group ({error.str()})"
            )
        if code in _OTHER_PROTOCOL:
            return GroupInUse(
                f"{kafka}: the consumer group has members that are not ours and assign partitions in another way: stop them, "
                f"or give the operator a group_id of its own ({error.str()})"
            )
        if code in _WRONG:
            return ConfigurationError(f"{kafka}: {error.str()}")
        return self.unavailable(error)

    def opening(self, make: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
        """Make a client. The client itself names an unknown or malformed key."""
        try:
            return make(config)
        except KafkaException as refused:
            if refused.args[0].code() in _SHORTAGE:
                raise self.unavailable(refused.args[0]) from refused
            raise ConfigurationError(
                f"Kafka connection {self.connection!r}: {refused.args[0].str()}: correct its extra"
            ) from refused
        except (TypeError, ValueError) as refused:
            raise ConfigurationError(
                f"Kafka connection {self.connection!r}: {refused}: correct its extra"
            ) from refused


def _login(connection: str, config: Mapping[str, Any]) -> str:
    """Where and as whom, without keeping a password."""
    parts = ("bootstrap", "metadata.broker", "security", "sasl", "ssl")
    whom = sorted((key, repr(value)) for key, value in config.items() if key.startswith(parts))
    return hashlib.sha256(repr((connection, whom)).encode()).hexdigest()


def is_fatal_event(error: KafkaError) -> bool:
    """Whether an error event of a consumer comes out of its poll; the others are only logged."""
    return error.fatal() or error.code() in _FENCED | _CREDENTIALS | _FORBIDDEN | _WRONG | _OTHER_PROTOCOL


def is_corrupt(error: KafkaError) -> bool:
    """Whether records could not be read: going on would take them for a gap (L2)."""
    return error.code() in _CORRUPT


def is_out_of_range(error: KafkaError) -> bool:
    """Whether the log does not hold the position."""
    return error.code() in _OUT_OF_RANGE


def is_odd_topic(error: KafkaError) -> bool:
    """Whether the topic may have been deleted."""
    return error.code() in _ODD_TOPIC
