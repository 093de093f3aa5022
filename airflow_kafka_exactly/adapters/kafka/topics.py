"""Topic ids: looked up when a consumer opens, and again while it works.

Kafka's consumer goes by name. When a topic is deleted and made again under the same name, the client goes on at the *old*
position in the new topic and says nothing (seen with librdkafka 2.16), and a late offset commit would skip records of the
new one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from airflow_kafka_exactly.adapters.kafka.admin import ClusterAdmin
from airflow_kafka_exactly.errors import ConfigurationError, TopicMissing, Unavailable
from airflow_kafka_exactly.ports import TopicFacts

log = logging.getLogger(__name__)

COMMIT_AGE_S: Final = 0.25
"""For an offset commit the ids may be so old: its note names the topic id, so a late one misleads nobody."""
IDLE_AGE_S: Final = 5.0
_LOOK_TIMEOUT_S: Final = 2.0
_AFTER_FAILURE_S: Final = 2.0
_MISSING_S: Final = 0.25
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
        self._made_again: set[str] = set()
        self._facts: Mapping[str, TopicFacts] = admin.topics(topics)

    def watches(self, topic: str) -> bool:
        return topic in self._names

    def topic_id(self, topic: str) -> str:
        return self._facts[topic].topic_id

    def exists(self, topic: str, number: int) -> bool:
        return number < self._facts[topic].partitions

    def made_again(self, topic: str) -> bool:
        """Since this watch began."""
        return topic in self._made_again

    def look(self, since: float) -> bool:
        """Whether the ids known now were asked for at `since` (monotonic seconds) or later; asks when they were not.

        Records that were fetched before `since` belong to these ids or to topics that are gone: a broker knows a topic's id
        before it takes its first record. `TopicMissing` when a topic is gone for good.
        """
        if self._asked_at >= since:
            return True
        with self._looking:  # another thread may have asked meanwhile
            if self._asked_at < since and time.monotonic() >= self._not_before:
                self._ask()
            return self._asked_at >= since

    def _ask(self) -> None:
        asked_at = time.monotonic()
        try:
            facts = self._admin.topics(self._names, _LOOK_TIMEOUT_S)
        except TopicMissing:
            if self._is_gone(asked_at):
                raise
        except (
            Unavailable,
            ConfigurationError,
        ) as failed:  # it has been allowed before, when this watch began
            log.warning("topic ids not looked up: %s", failed)
            self._not_before = time.monotonic() + _AFTER_FAILURE_S
        else:
            self._made_again |= {t for t in facts if facts[t].topic_id != self._facts[t].topic_id}
            self._facts, self._asked_at, self._missing_since = facts, asked_at, None

    def hurry(self) -> None:
        """The next look asks: Kafka said something odd about a topic."""
        self._asked_at = float("-inf")

    def _is_gone(self, now: float) -> bool:
        self._missing_since = self._missing_since or now
        self._not_before = now + _MISSING_S
        return now - self._missing_since > _GONE_S
