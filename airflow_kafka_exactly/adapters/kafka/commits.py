"""Offset commits: explicit, synchronous, each partition with its own answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaException, TopicPartition

from airflow_kafka_exactly.adapters.kafka import metadata
from airflow_kafka_exactly.adapters.kafka.client import Client
from airflow_kafka_exactly.adapters.kafka.codes import OF_ONE_PARTITION, classify
from airflow_kafka_exactly.adapters.kafka.ownership import Ownership
from airflow_kafka_exactly.adapters.kafka.topics import COMMIT_AGE_S, TopicWatch
from airflow_kafka_exactly.errors import ConfigurationError, TopicMissing
from airflow_kafka_exactly.protocol.claims import CommitCode
from airflow_kafka_exactly.protocol.record import Partition

log = logging.getLogger(__name__)

Answers = dict[Partition, tuple[CommitCode, str]]
Offsets = Mapping[Partition, tuple[int, int]]

NOT_ASSIGNED: Final = (CommitCode.ORPHAN, "NOT_ASSIGNED")
"""Kafka would accept it: a broker asks for the member's generation, not for whose partition it is. So we must not send it."""
TOPIC_RECREATED: Final = (CommitCode.ORPHAN, "TOPIC_RECREATED")
TOPIC_GONE: Final = (CommitCode.ORPHAN, "UNKNOWN_TOPIC_OR_PART")


class Commits:
    def __init__(self, client: Client, ownership: Ownership, topics: TopicWatch) -> None:
        self._client, self._ownership, self._topics = client, ownership, topics
        self.closed = False

    def commit(self, offsets: Offsets) -> Answers:
        if not offsets:
            return {}
        try:
            self._topics.look(time.monotonic() - COMMIT_AGE_S)
        except TopicMissing:
            return dict.fromkeys(offsets, TOPIC_GONE)
        except ConfigurationError as wrong:
            log.error("offset commit not sent: %s", wrong)  # noqa: TRY400 -- the message says what to do
            return dict.fromkeys(offsets, (CommitCode.FATAL, type(wrong).__name__))
        with self._ownership.lock:
            answers = {p: refusal for p in offsets if (refusal := self._refusal(p)) is not None}
            answers |= self._send({p: offsets[p] for p in offsets if p not in answers})
        return answers

    def _refusal(self, partition: Partition) -> tuple[CommitCode, str] | None:
        if self.closed or not self._ownership.holds(partition):
            return NOT_ASSIGNED
        return TOPIC_RECREATED if self._topics.topic_id(partition.topic) != partition.topic_id else None

    def _send(self, offsets: Offsets) -> Answers:
        if not offsets:
            return {}
        try:
            answered = self._client.commit([_noted(p, *o) for p, o in offsets.items()])
        except KafkaException as failed:
            error = failed.args[0]
            if len(offsets) > 1 and error.code() in OF_ONE_PARTITION:
                # The client tells one error for the whole request: ask for each partition, it is the same commit again.
                return {p: answer for p in offsets for answer in self._send({p: offsets[p]}).values()}
            return dict.fromkeys(offsets, classify(error))
        errors = {(tp.topic, tp.partition): tp.error for tp in answered}
        return {p: classify(errors.get((p.topic, p.number))) for p in offsets}


def _noted(partition: Partition, offset: int, claim: int) -> TopicPartition:
    return TopicPartition(
        partition.topic, partition.number, offset, metadata.write(claim, partition.topic_id)
    )
