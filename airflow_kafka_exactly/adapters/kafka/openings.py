"""What Kafka knows of partitions that were just assigned: the group's committed offsets, or where the policy begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, TopicPartition

from airflow_kafka_exactly.adapters.kafka import metadata
from airflow_kafka_exactly.adapters.kafka.admin import ClusterAdmin
from airflow_kafka_exactly.adapters.kafka.client import Client
from airflow_kafka_exactly.adapters.kafka.config import RESET_REFUSED, reset_policy
from airflow_kafka_exactly.adapters.kafka.records import Key
from airflow_kafka_exactly.adapters.kafka.topics import TopicWatch
from airflow_kafka_exactly.adapters.kafka.trouble import Trouble
from airflow_kafka_exactly.errors import ConfigurationError, GroupInUse
from airflow_kafka_exactly.protocol.claims import Opening
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.settings import KafkaSettings


class Openings:
    def __init__(
        self, settings: KafkaSettings, admin: ClusterAdmin, topics: TopicWatch, trouble: Trouble
    ) -> None:
        self._settings, self._admin, self._topics, self._trouble = settings, admin, topics, trouble
        self._reset = reset_policy(settings.config)

    def look(self, client: Client, keys: Sequence[Key]) -> list[Opening]:
        """One opening for each partition that exists, sorted. Every record of a topic that was made again is new to
        us, whatever the policy says.

        `GroupInUse` for offsets that another program committed, unless the settings adopt them.
        """
        wanted = sorted(key for key in keys if self._topics.exists(*key))
        openings, without = [], []
        for key, tp in zip(wanted, self._committed(client, wanted), strict=True):
            partition = Partition(self._topics.topic_id(key[0]), key[1], key[0])
            note = self._note(tp) if tp.offset >= 0 else None
            if tp.offset < 0:
                without.append((partition, self._topics.made_again(key[0])))
            elif note is not None and note.topic_id not in {"", partition.topic_id}:
                without.append((partition, True))  # committed for an earlier topic of this name
            else:
                openings.append(Opening(partition, tp.offset, True, note.claim if note else 0))
        openings += [Opening(p, start, False) for p, start in self._begin(without).items()]
        return sorted(openings, key=lambda o: o.partition)

    def _committed(self, client: Client, keys: Sequence[Key]) -> list[TopicPartition]:
        try:
            found = client.committed([TopicPartition(*key) for key in keys], self._settings.request_timeout_s)
        except KafkaException as failed:
            raise self._trouble.error(failed.args[0]) from failed
        for tp in found:
            if tp.error is not None:
                raise self._trouble.error(tp.error)
        return found

    def _note(self, tp: TopicPartition) -> metadata.Note | None:
        note = metadata.read(tp.metadata)
        if note is None and not self._settings.adopt_offsets:
            raise GroupInUse(
                f"the committed offset {tp.offset} of {tp.topic}[{tp.partition}] in consumer group "
                f"{self._settings.group_id!r} was written by another program: give the operator a group_id of its own, or, "
                "when that program has stopped for good, set adopt_offsets=True to go on from its offsets"
            )
        return note

    def _begin(self, partitions: Sequence[tuple[Partition, bool]]) -> Mapping[Partition, int]:
        by_policy = [p for p, renewed in partitions if not renewed]
        if by_policy and self._reset in RESET_REFUSED:
            raise ConfigurationError(
                f"Kafka connection {self._settings.connection!r} sets auto.offset.reset={self._reset}, and group "
                f"{self._settings.group_id!r} has no committed offset for {by_policy[0]}: set it to earliest"
            )
        return self._admin.earliest([p for p, _ in partitions])
