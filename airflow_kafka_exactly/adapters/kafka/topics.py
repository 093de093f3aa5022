"""Topic ids: looked up when a consumer opens, and again while it works.

Kafka's consumer goes by name. When a topic is deleted and made again under the same name, the client goes on at the *old*
position in the new topic and says nothing (seen with librdkafka 2.16), and a late offset commit would skip records of the
new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from airflow_kafka_exactly.adapters.kafka.admin import ClusterAdmin
from airflow_kafka_exactly.errors import TopicMissing, Unavailable
from airflow_kafka_exactly.ports import TopicFacts

_BUSY_S: Final = 0.25
"""With records or offsets in hand the ids may be so old: about a look-up (1 to 2 ms) in a hundred of time."""
_IDLE_S: Final = 5.0
_LOOK_TIMEOUT_S: Final = 2.0
_AFTER_FAILURE_S: Final = 2.0
_GONE_S: Final = 5.0
"""A topic counts as deleted when it has been missing for so long: a broker that has just started may not know it yet."""


class TopicWatch:
    """Which topic a name means now. Safe for several threads."""

    def __init__(self, admin: ClusterAdmin, topics: Sequence[str]) -> None:
        self._admin, self._names = admin, tuple(topics)
        self._looking = threading.Lock()
        self._asked_at = time.monotonic()
        self._missing_since: float | None = None
        self._not_before = 0.0
        self._facts: Mapping[str, TopicFacts] = admin.topics(topics)

    def topic_id(self, topic: str) -> str:
        return self._facts[topic].topic_id

    def exists(self, topic: str, number: int) -> bool:
        return number < self._facts[topic].partitions

    def look(self, *, busy: bool) -> None:
        """Ask again when the last answer is too old; the age counts from the asking.

        `TopicMissing` when a topic is gone for good. A cluster that does not answer changes nothing: it cannot have given
        the records in hand either.
        """
        now = time.monotonic()
        if now - self._asked_at < (_BUSY_S if busy else _IDLE_S) or now < self._not_before:
            return
        with self._looking:
            if self._asked_at > now or self._not_before > now:
                return  # another thread has just asked
            asked_at = time.monotonic()
            try:
                facts = self._admin.topics(self._names, _LOOK_TIMEOUT_S)
            except TopicMissing:
                if self._is_gone(asked_at):
                    raise
            except Unavailable:
                self._not_before = time.monotonic() + _AFTER_FAILURE_S
            else:
                self._facts, self._asked_at, self._missing_since = facts, asked_at, None

    def hurry(self) -> None:
        """The next look asks: Kafka said something odd about a topic."""
        self._asked_at = float("-inf")

    def _is_gone(self, now: float) -> bool:
        self._missing_since = self._missing_since or now
        self._not_before = now + _BUSY_S
        return now - self._missing_since > _GONE_S
