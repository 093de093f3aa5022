"""What is asked of the cluster beside consuming, and the errors of asking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from airflow_kafka_exactly.adapters.kafka import metadata
from airflow_kafka_exactly.adapters.kafka.config import admin_config
from airflow_kafka_exactly.adapters.kafka.trouble import Trouble
from airflow_kafka_exactly.errors import TopicMissing, Unavailable
from airflow_kafka_exactly.ports import TopicFacts
from airflow_kafka_exactly.protocol.record import Partition

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_S: Final = 0.2
"""So often a waiting request looks for news of the brokers: wrong credentials need not wait for the time-out."""


class ClusterAdmin:
    """Implements `ports.KafkaAdmin`. May be used from several threads; connects at the first question."""

    def __init__(self, connection: str, config: Mapping[str, Any], request_timeout_s: float = 10.0) -> None:
        self._timeout_s = request_timeout_s
        self._config = admin_config(config, request_timeout_s)
        self._trouble = Trouble(connection, config)
        self._opening = threading.Lock()
        self._client: AdminClient | None = None

    # -- ports.KafkaAdmin ----------------------------------------------------------------------------------------------

    def cluster_id(self) -> str:
        return str(self._answer(self._kafka().describe_cluster(request_timeout=self._timeout_s)).cluster_id)

    def topics(self, names: Sequence[str], timeout_s: float | None = None) -> Mapping[str, TopicFacts]:
        wait_s = timeout_s or self._timeout_s
        if not names:
            return {}
        asked = self._kafka().describe_topics(
            TopicCollection([*dict.fromkeys(names)]), request_timeout=wait_s
        )
        found: dict[str, TopicFacts] = {}
        missing = []
        for name, future in asked.items():
            try:
                facts = self._answer(future, wait_s)
                found[name] = TopicFacts(name, str(facts.topic_id), len(facts.partitions))
            except _NoSuchTopic:
                missing.append(name)
        if missing:
            raise TopicMissing(
                f"Kafka (connection {self._trouble.connection!r}) has no topic {', '.join(map(repr, missing))}: create it, or "
                "correct the operator's topics"
            )
        return found

    def end_offsets(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        facts = self.topics(topics)
        partitions = [Partition(t.topic_id, n, t.topic) for t in facts.values() for n in range(t.partitions)]
        return self.latest(partitions)

    def instances(self, group_id: str) -> tuple[str, ...]:
        """Not for a triggerer: the admin client has to be asked (see `_as_stranger`), because a consumer is not told this."""

        def ask() -> Any:
            asked = self._kafka().describe_consumer_groups([group_id], request_timeout=self._timeout_s)
            return self._answer(asked[group_id])

        try:
            group = self._from_coordinator(ask)
        except _NoSuchGroup:
            return ()
        return tuple(sorted(member.group_instance_id or "" for member in group.members))

    def committed(self, group_id: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        notes = self._committed(group_id, self._current(partitions))
        return {
            partition: offset
            for partition, (offset, note) in notes.items()
            if note is None or note.topic_id in {"", partition.topic_id}
        }

    def alter(self, group_id: str, offsets: Mapping[Partition, int]) -> Mapping[Partition, bool]:
        current = self._current(offsets)
        if not current:
            return dict.fromkeys(offsets, False)
        notes = self._committed(group_id, current)
        wanted = [_altered(partition, offsets[partition], notes.get(partition)) for partition in current]
        try:
            answers = self._from_coordinator(lambda: self._write_offsets(group_id, wanted))
        except (_Refused, _NoSuchGroup) as refusal:
            log.info("Kafka refused to alter offsets of group %r: %s", group_id, refusal)
            return dict.fromkeys(offsets, False)
        accepted = {(tp.topic, tp.partition) for tp in answers if tp.error is None}
        return {p: p in current and (p.topic, p.number) in accepted for p in offsets}

    # -- for the consumer ----------------------------------------------------------------------------------------------

    def earliest(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The first offsets that the log still holds."""
        return self._positions(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def latest(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The last stable offsets."""
        return self._positions(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _positions(self, partitions: Iterable[Partition], at: Any) -> Mapping[Partition, int]:
        wanted = {(p.topic, p.number): p for p in partitions}
        deadline = time.monotonic() + self._timeout_s
        while wanted:
            try:
                return self._ask_positions(wanted, at)
            except _Moved:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)
                self._look_for_leaders({topic for topic, _ in wanted})
        return {}

    def _ask_positions(self, wanted: Mapping[tuple[str, int], Partition], at: Any) -> Mapping[Partition, int]:
        asked = self._kafka().list_offsets(
            {TopicPartition(topic, number): at for topic, number in wanted},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self._timeout_s,
        )
        return {wanted[tp.topic, tp.partition]: self._answer(future).offset for tp, future in asked.items()}

    def _look_for_leaders(self, topics: Iterable[str]) -> None:
        """The client asks the leader it knows from before; only new metadata names the present one."""
        for topic in topics:
            try:
                self._kafka().list_topics(topic, timeout=self._timeout_s)
            except KafkaException as failed:
                raise self._named(failed.args[0]) from failed

    # -- asking --------------------------------------------------------------------------------------------------------

    def _kafka(self) -> AdminClient:
        with self._opening:
            if self._client is None:
                config = {**self._config, "error_cb": self._trouble.heard, "logger": log}
                self._client = self._trouble.opening(AdminClient, config)
            self._client.poll(0)  # its news and its log
            return self._client

    def _current(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those whose topic is still the one with that id: offsets go by name."""
        wanted = list(partitions)
        ids = {}
        for name in {p.topic for p in wanted}:
            try:
                ids[name] = self.topics([name])[name].topic_id
            except TopicMissing:
                continue
        return [p for p in wanted if ids.get(p.topic) == p.topic_id]

    def _committed(
        self, group_id: str, partitions: Sequence[Partition]
    ) -> dict[Partition, tuple[int, metadata.Note | None]]:
        if not partitions:
            return {}
        names = {(p.topic, p.number): p for p in partitions}
        found = {}
        for tp in self._from_coordinator(lambda: self._read_offsets(group_id, names)):
            if tp.offset >= 0:
                found[names[tp.topic, tp.partition]] = (tp.offset, metadata.read(tp.metadata))
        return found

    def _read_offsets(self, group_id: str, names: Iterable[tuple[str, int]]) -> list[TopicPartition]:
        wanted = [TopicPartition(*name) for name in names]
        offsets = self._as_stranger(
            group_id, lambda reader: reader.committed(wanted, timeout=self._timeout_s)
        )
        for tp in offsets:
            if tp.error is not None:
                raise self._named(tp.error)
        return offsets

    def _write_offsets(self, group_id: str, wanted: list[TopicPartition]) -> list[TopicPartition]:
        """Kafka takes an offset from who is no member only while the group has none."""
        return self._as_stranger(group_id, lambda writer: writer.commit(offsets=wanted, asynchronous=False))

    def _as_stranger(
        self, group_id: str, ask: Callable[[Consumer], list[TopicPartition]]
    ) -> list[TopicPartition]:
        """Ask a group's coordinator by a consumer that never joins. The admin client's own questions to a coordinator end the
        whole *process* when it starts, has moved or does not answer (librdkafka issues 4605 and 5040; both seen with
        confluent-kafka 2.16)."""
        config = {**self._config, "group.id": group_id, "enable.auto.commit": False, "logger": log}
        # How long a commit waits for a coordinator.
        config["session.timeout.ms"] = int(self._timeout_s * 1000)
        client = self._trouble.opening(Consumer, {**config, "error_cb": self._trouble.heard})
        try:
            return ask(client)
        except KafkaException as failed:
            client.poll(0)  # its news of the brokers
            self._trouble.raise_hopeless()
            raise self._named(failed.args[0]) from failed

    def _from_coordinator(self, ask: Callable[[], T]) -> T:
        """A group's coordinator that starts or moves is asked again: a cluster's first group waits for its offsets topic."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return ask()
            except _NoCoordinator:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)

    def _answer(self, future: Future[Any], timeout_s: float | None = None) -> Any:
        """Wait for one answer. `Unavailable` or `ConfigurationError` when there is none."""
        deadline = (
            time.monotonic() + (timeout_s or self._timeout_s) + 2 * _LOOK_S
        )  # the client's own time-out comes first
        while True:
            try:
                answer = future.result(_LOOK_S)
            except FutureTimeout:
                self._kafka()
                self._trouble.raise_hopeless()
                if time.monotonic() > deadline:
                    raise self._trouble.unavailable(None) from None
            except KafkaException as failed:
                self._kafka()
                raise self._named(failed.args[0]) from failed
            else:
                self._trouble.all_well()
                return answer

    def _named(self, error: KafkaError) -> Exception:
        code, told = error.code(), f"Kafka (connection {self._trouble.connection!r}): {error.str()}"
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return _NoSuchTopic(told)
        if code == KafkaError.GROUP_ID_NOT_FOUND:
            return _NoSuchGroup("Kafka", f"connection {self._trouble.connection!r}", error.str())
        for codes, kind in ((_ALTER_REFUSED, _Refused), (_MOVED, _Moved), (_UNCOORDINATED, _NoCoordinator)):
            if code in codes:
                return kind("Kafka", f"connection {self._trouble.connection!r}", error.str())
        return self._trouble.error(error)


class _NoSuchTopic(TopicMissing):
    """Of one topic among several."""


class _NoSuchGroup(Unavailable):
    """A group without members and offsets."""


class _Refused(Unavailable):
    """The group is not empty."""


class _Moved(Unavailable):
    """The partition's leader has changed, as far as we know."""


class _NoCoordinator(Unavailable):
    """The group's coordinator starts, or has moved."""


_ALTER_REFUSED: Final = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,  # how a group with members answers
        KafkaError.NON_EMPTY_GROUP,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.GROUP_SUBSCRIBED_TO_TOPIC,
    }
)
_MOVED: Final = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_UNCOORDINATED: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


def _altered(
    partition: Partition, offset: int, known: tuple[int, metadata.Note | None] | None
) -> TopicPartition:
    note = known[1] if known else None
    claim = note.claim if note and note.topic_id in {"", partition.topic_id} else 0
    return TopicPartition(
        partition.topic, partition.number, offset, metadata.write(claim, partition.topic_id)
    )
