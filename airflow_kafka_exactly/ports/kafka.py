"""Kafka: a member of a consumer group, and what is asked of the cluster beside consuming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from airflow_kafka_exactly.protocol.claims import (
    CommitCode,
    Opening,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch


@dataclass(frozen=True, slots=True)
class Polled:
    batches: tuple[PartitionBatch, ...]
    at_end: frozenset[Partition] = frozenset()
    """Partitions whose end (the last stable offset) was reached by this poll."""
    lost: Mapping[Partition, OffsetRange] = field(default_factory=dict)
    """Offsets that were deleted before they were read, with `on_lost_records="skip"`: the gap follows, in this poll's batches
    or later ones, so what is lost can be written down before anything claims it (L2)."""


class RebalanceListener(Protocol):
    """Called by the consumer from inside `poll` and `close`, in the polling thread."""

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        """Returns where to start in each partition."""
        ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Still the owner until this returns: drain, commit offsets, give back (section 4.8). Not called for our own close."""
        ...

    def lost(self, partitions: Sequence[Partition]) -> None:
        """No longer the owner: no offset commit."""
        ...


class GroupConsumer(Protocol):
    """A static member of a consumer group. Everything belongs to the thread that polls; also `commit`, which never returns
    from another thread while the client polls (seen with confluent-kafka 2.16)."""

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """`Fenced` when Kafka says that another process took the `group.instance.id` over. Kafka's client also says so when
        its session ended while no broker answered: read the incarnation; when it is still the current one, close this
        consumer and open another. `RecordsLost` when the log begins behind the
        position. `Unavailable`, and whatever the listener raised, pass: nothing is skipped by polling again."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def assignment(self) -> frozenset[Partition]: ...
    def commit(
        self, offsets: Mapping[Partition, tuple[int, int]]
    ) -> Mapping[Partition, tuple[CommitCode, str]]:
        """Offsets and the newest claim number below each (kept in the metadata). Synchronous. Never raises for a refusal:
        each partition gets its code and Kafka's own name of the error. Nothing to commit is a no-op (case 5)."""
        ...

    def close(self) -> None:
        """Stop without leaving the group: the slot's next life gets the same partitions."""
        ...


class Consumers(Protocol):
    def open(self, slot: str, listener: RebalanceListener) -> GroupConsumer: ...


@dataclass(frozen=True, slots=True)
class TopicFacts:
    topic: str
    topic_id: str
    partitions: int


class KafkaAdmin(Protocol):
    """What is asked of the cluster beside consuming."""

    def cluster_id(self) -> str: ...
    def topics(self, names: Sequence[str]) -> Mapping[str, TopicFacts]:
        """`TopicMissing` names the ones that do not exist."""
        ...

    def end_offsets(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """The last stable offsets, of all partitions."""
        ...

    def instances(self, group_id: str) -> tuple[str, ...]:
        """The `group.instance.id` of each member, "" for a dynamic one. For workers: see the adapter for what it may cost."""
        ...

    def committed(self, group_id: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Partitions without a committed offset, or whose topic is a new one of the same name, are left out."""
        ...

    def alter(self, group_id: str, offsets: Mapping[Partition, int]) -> Mapping[Partition, bool]:
        """Of an empty group, or it is refused (False): which is how one learns whether a group is empty."""
        ...
