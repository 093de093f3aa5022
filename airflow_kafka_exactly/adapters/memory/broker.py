"""A Kafka broker in memory with the ports of the real one: topics, static members, rebalances, offset commits.

Nothing happens by itself: a session ends when `expire` says so, and rebalances reach a member in its next poll. With a clock,
an empty poll sleeps on it; without one it waits for news, so that threads can use it too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from airflow_kafka_exactly.adapters.memory.broker_admin import MemoryAdmin
from airflow_kafka_exactly.adapters.memory.group import Committed, Group, Member, Refusal
from airflow_kafka_exactly.adapters.memory.group_consumer import MemoryConsumer
from airflow_kafka_exactly.adapters.memory.log import Handing, PartitionLog, Topic
from airflow_kafka_exactly.errors import TopicMissing, Unavailable
from airflow_kafka_exactly.ports import Clock, RebalanceListener
from airflow_kafka_exactly.protocol.claims import CommitCode
from airflow_kafka_exactly.protocol.record import Headers, OffsetRange
from airflow_kafka_exactly.settings import KafkaSettings


class MemoryBroker:
    """One cluster. Everything public takes the lock; callbacks run without it."""

    def __init__(self, cluster_id: str = "memory", clock: Clock | None = None) -> None:
        self.cluster_id, self._clock = cluster_id, clock
        self.news = threading.Condition(threading.RLock())
        self.up = True
        self._topics: dict[str, Topic] = {}
        self._topics_made = 0
        self._groups: dict[str, Group] = {}

    # -- topics --------------------------------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int = 1) -> str:
        """Returns the topic id, which no other topic ever has."""
        with self.news:
            assert name not in self._topics, f"topic {name} exists"
            self._topics_made += 1
            logs = [PartitionLog() for _ in range(partitions)]
            self._topics[name] = Topic(name, f"{name}-{self._topics_made}", logs)
            self._rebalance_readers(name)
            return self._topics[name].topic_id

    def delete_topic(self, name: str) -> None:
        """Its committed offsets go with it, as Kafka's do."""
        with self.news:
            del self._topics[name]
            for group in self._groups.values():
                group.offsets = {key: c for key, c in group.offsets.items() if key[0] != name}
            self.news.notify_all()

    def add_partitions(self, name: str, partitions: int) -> None:
        """So many in all."""
        with self.news:
            logs = self.topic(name).logs
            logs.extend(PartitionLog() for _ in range(partitions - len(logs)))
            self._rebalance_readers(name)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        number: int = 0,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> int:
        """Returns the offset. The timestamp is the offset: time does not pass here."""
        with self.news:
            log = self.log(topic, number)
            self.news.notify_all()
            return log.append(key, value, headers, log.end)

    def gap(self, topic: str, number: int = 0, offsets: int = 1) -> None:
        with self.news:
            self.log(topic, number).gap(offsets)
            self.news.notify_all()

    def remove(self, topic: str, number: int, removed: OffsetRange) -> None:
        with self.news:
            self.log(topic, number).remove(removed)

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        with self.news:
            self.log(topic, number).delete_before(offset)

    def hold(self, topic: str, number: int, offset: int | None) -> None:
        """An open transaction begins at `offset`; None ends it."""
        with self.news:
            self.log(topic, number).held_at = offset
            self.news.notify_all()

    def hand_out(self, topic: str, number: int, handing: Handing) -> None:
        """The next fetch that finds records gives the consumer what `handing` makes of them: some twice, or out of order."""
        with self.news:
            self.log(topic, number).handing = handing

    # -- groups --------------------------------------------------------------------------------------------------------

    def consumers(self, settings: KafkaSettings) -> MemoryConsumers:
        return MemoryConsumers(self, settings)

    def admin(self) -> MemoryAdmin:
        return MemoryAdmin(self)

    def generation(self, group_id: str) -> int:
        return self.group(group_id).generation

    def expire(self, group_id: str, slot: str) -> None:
        """The session of a slot ends; a consumer that still lives loses its partitions and joins again in its next poll."""
        with self.news:
            member = self.group(group_id).members.pop(slot)
            if member.consumer is not None:
                member.consumer.expired = True
            self.rebalance(group_id)

    def refuse_commits(
        self,
        group_id: str,
        name: str = "ILLEGAL_GENERATION",
        times: int = 1,
        code: CommitCode = CommitCode.ORPHAN,
    ) -> None:
        """The next `times` offset commits of the group that would be accepted are refused."""
        with self.news:
            self.group(group_id).refusals.append(Refusal(code, name, times))

    def plain_commit(self, group_id: str, topic: str, number: int, offset: int) -> None:
        """What a consumer that is not ours leaves behind."""
        with self.news:
            self.group(group_id).offsets[topic, number] = Committed(offset, "", 0, ours=False)

    def plain_member(self, group_id: str, count: int = 1) -> None:
        with self.news:
            self.group(group_id).dynamic_members = count

    # -- for consumers and the admin -----------------------------------------------------------------------------------

    def answer(self) -> None:
        """`Unavailable` while the broker is down (`up = False`)."""
        if not self.up:
            raise Unavailable("Kafka", "memory", "it is down")

    def topic(self, name: str) -> Topic:
        if name not in self._topics:
            raise TopicMissing(
                f"Kafka (memory) has no topic {name!r}: create it, or correct the operator's topics"
            )
        return self._topics[name]

    def log(self, topic: str, number: int) -> PartitionLog:
        return self.topic(topic).logs[number]

    def group(self, group_id: str) -> Group:
        return self._groups.setdefault(group_id, Group(group_id))

    def join(self, group_id: str, slot: str, topics: Sequence[str], consumer: MemoryConsumer) -> None:
        """A new place in the group, or a slot taken over: then nothing moves and the old consumer is fenced."""
        group = self.group(group_id)
        member = group.members.get(slot)
        if member is None:
            group.members[slot] = Member(slot, tuple(topics), consumer)
            self.rebalance(group_id)
            return
        if member.consumer is not None:
            member.consumer.fenced = True
        member.consumer = consumer

    def rebalance(self, group_id: str) -> None:
        group = self.group(group_id)
        names = {
            topic for member in group.members.values() for topic in member.topics if topic in self._topics
        }
        group.rebalance((name, n) for name in names for n in range(len(self._topics[name].logs)))
        self.news.notify_all()

    def wait(self, timeout_s: float) -> None:
        """For news, or on the clock."""
        if timeout_s <= 0:
            return
        if self._clock is not None:
            self._clock.sleep(timeout_s)
        else:
            with self.news:
                self.news.wait(timeout_s)

    def _rebalance_readers(self, topic: str) -> None:
        for group in self._groups.values():
            if any(topic in member.topics for member in group.members.values()):
                self.rebalance(group.name)


class MemoryConsumers:
    """Implements `ports.Consumers`."""

    def __init__(self, broker: MemoryBroker, settings: KafkaSettings) -> None:
        self._broker, self._settings = broker, settings

    def open(self, slot: str, listener: RebalanceListener) -> MemoryConsumer:
        self._broker.answer()
        return MemoryConsumer(self._broker, self._settings, slot, listener)
