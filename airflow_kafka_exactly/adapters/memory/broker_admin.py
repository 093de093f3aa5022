"""`ports.KafkaAdmin` of the broker in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_kafka_exactly.adapters.memory.group import Committed
from airflow_kafka_exactly.errors import TopicMissing
from airflow_kafka_exactly.ports import TopicFacts
from airflow_kafka_exactly.protocol.record import Partition

if TYPE_CHECKING:
    from airflow_kafka_exactly.adapters.memory.broker import MemoryBroker


class MemoryAdmin:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def cluster_id(self) -> str:
        self._broker.answer()
        return self._broker.cluster_id

    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        self._broker.answer()
        with self._broker.news:
            found = [self._broker.topic(name) for name in names]
            return {t.name: TopicFacts(t.name, t.topic_id, len(t.logs)) for t in found}

    def end_offsets(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        self._broker.answer()
        with self._broker.news:
            found = [self._broker.topic(name) for name in topics]
            return {t.partition(n): log.stable for t in found for n, log in enumerate(t.logs)}

    def instances(self, group_id: str) -> tuple[str, ...]:
        self._broker.answer()
        with self._broker.news:
            group = self._broker.group(group_id)
            return ("",) * group.dynamic_members + tuple(sorted(group.members))

    def committed(self, group_id: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._broker.answer()
        with self._broker.news:
            offsets = self._broker.group(group_id).offsets
            known = {p: offsets.get((p.topic, p.number)) for p in partitions if self._is_current(p)}
            return {p: c.offset for p, c in known.items() if c is not None and c.topic_id in {"", p.topic_id}}

    def alter(self, group_id: str, offsets: Mapping[Partition, int]) -> Mapping[Partition, bool]:
        self._broker.answer()
        with self._broker.news:
            group = self._broker.group(group_id)
            empty = not group.members and not group.dynamic_members
            accepted = {p: empty and self._is_current(p) for p in offsets}
            for p in (p for p, yes in accepted.items() if yes):
                known = group.offsets.get((p.topic, p.number))
                claim = known.claim if known is not None and known.topic_id == p.topic_id else 0
                group.offsets[p.topic, p.number] = Committed(offsets[p], p.topic_id, claim)
            return accepted

    def _is_current(self, partition: Partition) -> bool:
        try:
            return self._broker.topic(partition.topic).topic_id == partition.topic_id
        except TopicMissing:
            return False
