"""`ports.GroupConsumer` of the broker in memory. Rebalances reach it in its polls, as they reach the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_kafka_exactly.adapters.memory.group import Committed, Key, Member
from airflow_kafka_exactly.errors import ConfigurationError, Fenced, GroupInUse, TopicMissing
from airflow_kafka_exactly.ports import Polled, RebalanceListener
from airflow_kafka_exactly.protocol.claims import CommitCode, Opening
from airflow_kafka_exactly.protocol.lost import lost_range
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch
from airflow_kafka_exactly.protocol.sequence import take
from airflow_kafka_exactly.settings import KafkaSettings

if TYPE_CHECKING:
    from airflow_kafka_exactly.adapters.memory.broker import MemoryBroker


class MemoryConsumer:
    def __init__(
        self, broker: MemoryBroker, settings: KafkaSettings, slot: str, listener: RebalanceListener
    ) -> None:
        self._broker, self._settings, self._slot, self._listener = broker, settings, slot, listener
        self._reset = str(settings.config.get("auto.offset.reset", "earliest"))
        self._positions: dict[Partition, int] = {}
        self._renewed: set[Key] = set()
        self._told_end: dict[Partition, int] = {}
        self._paused = self._closed = False
        self._turn = 0
        self.fenced = self.expired = False
        with broker.news:
            for topic in settings.topics:
                broker.topic(topic)
            self._join()

    # -- ports.GroupConsumer -------------------------------------------------------------------------------------------

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        assert not self._closed, "polled after close"
        polled = self._poll(max_records)
        if not polled.batches and not polled.at_end:
            self._broker.wait(timeout_s)
            polled = self._poll(max_records)
        return polled

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._told_end.clear()

    def assignment(self) -> frozenset[Partition]:
        with self._broker.news:
            return frozenset(self._positions)

    def commit(
        self, offsets: Mapping[Partition, tuple[int, int]]
    ) -> Mapping[Partition, tuple[CommitCode, str]]:
        with self._broker.news:
            answers = {}
            for partition, (offset, claim) in offsets.items():
                refusal = self._refusal(partition)
                if refusal is None:
                    group = self._broker.group(self._settings.group_id)
                    group.offsets[_key(partition)] = Committed(offset, partition.topic_id, claim)
                answers[partition] = refusal or (CommitCode.ACCEPTED, "NO_ERROR")
            return answers

    def close(self) -> None:
        with self._broker.news:
            self._closed = True
            self._positions.clear()
            member = self._member()
            if member is not None:
                member.consumer = None

    # -- inside --------------------------------------------------------------------------------------------------------

    def _refusal(self, partition: Partition) -> tuple[CommitCode, str] | None:
        reasons = (
            (self._closed or partition not in self._positions, CommitCode.ORPHAN, "NOT_ASSIGNED"),
            (self.fenced, CommitCode.ORPHAN, "_FATAL"),
            (self.expired, CommitCode.ORPHAN, "UNKNOWN_MEMBER_ID"),
            (not self._broker.up, CommitCode.RETRY, "_TRANSPORT"),
            (not self._exists(_key(partition)), CommitCode.ORPHAN, "UNKNOWN_TOPIC_OR_PART"),
            (not self._is_current(partition), CommitCode.ORPHAN, "TOPIC_RECREATED"),
        )
        for applies, code, name in reasons:
            if applies:
                return code, name
        return self._broker.group(self._settings.group_id).refusal()

    def _poll(self, max_records: int) -> Polled:
        if self.fenced:
            raise Fenced(f"Kafka (memory): another process works in slot {self._slot!r} now")
        if not self._broker.up:
            return Polled(())
        self._serve_rebalance()
        return Polled(()) if self._paused else self._fetch(max_records)

    def _serve_rebalance(self) -> None:
        """Callbacks run without the broker's lock: they may commit offsets, from any thread."""
        if self.expired:
            self._lose(list(self._positions))
            with self._broker.news:
                self.expired = False
                self._join()
        renewed = [p for p in self._positions if self._topic_id(p.topic) != p.topic_id]
        if renewed:
            self._renewed.update(map(_key, renewed))
            self._lose(renewed)
        member = self._member()
        if member is None:
            return
        unwanted = sorted(p for p in self._positions if _key(p) not in member.wanted)
        if unwanted:
            try:
                self._listener.revoked(unwanted)
            finally:
                self._forget(unwanted)
        self._leave_to_others(member)
        self._open(member)

    def _leave_to_others(self, member: Member) -> None:
        """What the slot's former consumer had, was taken from the slot, and this one has never opened."""
        with self._broker.news:
            if not member.owned <= member.wanted:
                member.owned &= member.wanted
                self._broker.news.notify_all()

    def _lose(self, partitions: Iterable[Partition]) -> None:
        gone = sorted(partitions)
        self._forget(gone)
        if gone:
            self._listener.lost(gone)

    def _forget(self, partitions: Iterable[Partition]) -> None:
        with self._broker.news:
            member = self._member()
            for partition in partitions:
                self._positions.pop(partition, None)
                self._told_end.pop(partition, None)  # when it comes back, its end is told again
                if member is not None:
                    member.owned.discard(_key(partition))
            self._broker.news.notify_all()

    def _open(self, member: Member) -> None:
        with self._broker.news:
            group, have = self._broker.group(self._settings.group_id), set(map(_key, self._positions))
            new = sorted(k for k in member.wanted - have if group.free(k, self._slot) and self._exists(k))
            openings = [self._opening(key, group.offsets.get(key)) for key in new]
            member.owned.update(new)
        if openings:
            starts = self._listener.assigned(openings)
            with self._broker.news:
                self._positions.update((o.partition, starts[o.partition]) for o in openings)

    def _opening(self, key: Key, committed: Committed | None) -> Opening:
        topic = self._broker.topic(key[0])
        partition, log = topic.partition(key[1]), topic.logs[key[1]]
        if committed is not None and committed.topic_id in {"", topic.topic_id}:
            if not committed.ours and not self._settings.adopt_offsets:
                raise GroupInUse(
                    f"the committed offset of {partition} in consumer group {self._settings.group_id!r} was written by another "
                    "program: give the operator a group_id of its own, or set adopt_offsets=True"
                )
            return Opening(partition, committed.offset, True, committed.claim)
        if self._reset in {"error", "none"} and committed is None and key not in self._renewed:
            raise ConfigurationError(
                f"auto.offset.reset={self._reset}, and no committed offset for {partition}"
            )
        return Opening(partition, log.start, False)

    def _fetch(self, max_records: int) -> Polled:
        with self._broker.news:
            batches, at_end, lost, room = [], set(), dict[Partition, OffsetRange](), max_records
            # The topic may have been made again since the poll began: its records are another topic's.
            partitions = sorted(filter(self._is_current, self._positions))
            self._turn += 1
            for at in range(len(partitions)):
                partition = partitions[(self._turn + at) % len(partitions)]
                log, start = self._broker.log(partition.topic, partition.number), self._positions[partition]
                records, stop = log.read(start, room)
                came = log.handed_out(records)
                taken = take(start, came, [(len(came), stop)])
                if taken is None:
                    continue  # fetched again by the next poll
                if taken.stop > start:
                    if start < log.start:
                        lost[partition] = lost_range(
                            self._settings.on_lost_records, partition, start, log.start
                        )
                    batches.append(PartitionBatch(partition, OffsetRange(start, taken.stop), taken.records))
                    self._positions[partition] = taken.stop
                    room -= len(taken.records)
                if stop >= log.stable and self._told_end.get(partition) != stop:
                    self._told_end[partition] = stop
                    at_end.add(partition)
            return Polled(tuple(batches), frozenset(at_end), lost)

    def _join(self) -> None:
        self._broker.join(self._settings.group_id, self._slot, self._settings.topics, self)

    def _member(self) -> Member | None:
        member = self._broker.group(self._settings.group_id).members.get(self._slot)
        return member if member is not None and member.consumer is self else None

    def _exists(self, key: Key) -> bool:
        try:
            return key[1] < len(self._broker.topic(key[0]).logs)
        except TopicMissing:
            return False

    def _is_current(self, partition: Partition) -> bool:
        return self._exists(_key(partition)) and self._topic_id(partition.topic) == partition.topic_id

    def _topic_id(self, topic: str) -> str:
        return self._broker.topic(topic).topic_id


def _key(partition: Partition) -> Key:
    return (partition.topic, partition.number)
