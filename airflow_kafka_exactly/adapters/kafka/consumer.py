"""One static member of a consumer group: `ports.GroupConsumer` on librdkafka.

A position moves only by what a poll hands over (`Owned.next`), so that ranges leave no hole: whatever is thrown away is fetched
again from there. Callbacks of a rebalance run inside `consume`; what they raise is kept and comes out of `poll`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from airflow_kafka_exactly.adapters.kafka.admin import ClusterAdmin
from airflow_kafka_exactly.adapters.kafka.client import Client
from airflow_kafka_exactly.adapters.kafka.commits import Commits
from airflow_kafka_exactly.adapters.kafka.config import check, consumer_config
from airflow_kafka_exactly.adapters.kafka.openings import Openings
from airflow_kafka_exactly.adapters.kafka.ownership import Ownership
from airflow_kafka_exactly.adapters.kafka.records import Collected, Key, collect
from airflow_kafka_exactly.adapters.kafka.topics import IDLE_AGE_S, TopicWatch
from airflow_kafka_exactly.adapters.kafka.trouble import (
    Trouble,
    is_corrupt,
    is_fatal_event,
    is_odd_topic,
    is_out_of_range,
)
from airflow_kafka_exactly.errors import KafkaExactlyError, Unavailable
from airflow_kafka_exactly.ports import Polled, RebalanceListener
from airflow_kafka_exactly.protocol.claims import CommitCode
from airflow_kafka_exactly.protocol.lost import lost_range
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.settings import KafkaSettings

log = logging.getLogger(__name__)

_FILL_S: Final = 0.01
"""With the first record in hand, the rest of a fetch is waited for so long."""
_STUCK_S: Final = 1.0
_RETRY_S: Final = 0.1


class KafkaConsumers:
    """Implements `ports.Consumers` for one consumer group."""

    def __init__(self, settings: KafkaSettings, admin: ClusterAdmin | None = None) -> None:
        check(settings)
        self._settings = settings
        self.admin = admin or ClusterAdmin(settings.connection, settings.config, settings.request_timeout_s)

    def open(self, slot: str, listener: RebalanceListener) -> KafkaGroupConsumer:
        """Join as `slot`. Raises within `request_timeout_s`: `ConfigurationError`, `TopicMissing`, `Unavailable`."""
        check(self._settings, slot)
        return KafkaGroupConsumer(self._settings, slot, listener, self.admin)


class KafkaGroupConsumer:
    """Implements `ports.GroupConsumer`."""

    def __init__(
        self, settings: KafkaSettings, slot: str, listener: RebalanceListener, admin: ClusterAdmin
    ) -> None:
        self._listener, self._admin = listener, admin
        self._on_lost_records = settings.on_lost_records
        self._poll_bytes = settings.prefetch_max_bytes // 4
        """About so much does one poll take (records come in all sizes), so that large ones fill the hand one by one."""
        config = consumer_config(settings, slot)
        self._trouble = Trouble(settings.connection, settings.config, config.pop("error_cb", None))
        self._topics = TopicWatch(admin, settings.topics)
        self._openings = Openings(settings, admin, self._topics, self._trouble)
        self._ownership = Ownership()
        self._kept: list[BaseException] = []
        self._held: list[Message] = []
        self._unopened: set[Key] = set()
        """Assigned by Kafka, not (or not yet again) opened by the listener: paused, and tried at each poll."""
        self._stuck: dict[Key, float] = {}
        """Positions that the log does not hold, and when to look again."""
        self._lost: dict[Partition, OffsetRange] = {}
        """Deleted before they were read, and not told yet."""
        self._moved: set[Key] = set()
        """Assigned or taken away since the first message of a poll."""
        self._paused = self._closing = False
        config |= {"error_cb": self._trouble.heard, "logger": log}
        raw = self._trouble.opening(Consumer, config)
        raw.subscribe(
            list(settings.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._client = Client(raw)
        self._commits = Commits(self._client, self._ownership, self._topics)

    # -- ports.GroupConsumer -------------------------------------------------------------------------------------------

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """Waits up to `timeout_s` for the first record or event, then takes what is there, up to `max_records`.

        Whatever it raises, nothing is skipped by polling again: `Fenced` and `ConfigurationError` will come again,
        `Unavailable` passes, and so does what the listener raised.
        """
        self._raise_kept()
        self._reopen()
        self._free_stuck()
        taken = self._take(max_records - len(self._held), 0.0 if self._held else timeout_s)
        self._held += taken  # a statement of its own: what is held changes while we take
        self._raise_kept()
        if not self._same_topics():
            time.sleep(min(timeout_s, _RETRY_S))
            return Polled(())
        held, self._held = self._held, []
        found = collect(held)
        try:
            self._events(found)
        except KafkaExactlyError:
            self._held = [m for m in held if m not in found.troubles]
            raise
        return self._hand_over(found)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._client.pause(_named(self._ownership))

    def resume(self) -> None:
        """Cheap when nothing is paused: the client would throw away what it has fetched ahead."""
        if self._paused:
            self._paused = False
            self._client.resume(_named(self._ownership))

    def assignment(self) -> frozenset[Partition]:
        return self._ownership.partitions()

    def commit(
        self, offsets: Mapping[Partition, tuple[int, int]]
    ) -> Mapping[Partition, tuple[CommitCode, str]]:
        return self._commits.commit(offsets)

    def close(self) -> None:
        """Takes at most about 4 s and tells the listener nothing. A static member leaves its place behind, nothing else."""
        self._closing = self._commits.closed = True
        self._client.close()
        self._ownership.clear()

    # -- what a poll brings --------------------------------------------------------------------------------------------

    def _take(self, room: int, timeout_s: float) -> list[Message]:
        """A first message alone: callbacks of a rebalance come before it, never between it and others."""
        if room <= 0:
            return []
        try:
            messages = self._client.consume(1, timeout_s)
            more = min(room, self._poll_bytes // max(1, len(messages[0]))) - 1 if messages else 0
            if more <= 0:
                return messages
            self._moved.clear()
            messages += self._client.consume(more, _FILL_S)
        except KafkaException as failed:
            if is_fatal_event(failed.args[0]):
                raise self._trouble.error(failed.args[0]) from failed
            log.warning("polling Kafka: %s", failed)
            self._begin_again()
            return []
        return self._without_mixed(messages) if self._moved else messages

    def _begin_again(self) -> None:
        """What the client had taken from its queue when it failed is gone."""
        self._held = []
        for key in self._ownership:
            self._seek(key, self._ownership[key].next)

    def _without_mixed(self, messages: list[Message]) -> list[Message]:
        """Messages from before and after an assignment of the same partition cannot be told apart, and the first message is
        from before it: fetch them again."""
        keys = self._moved & {_key(m) for m in messages}
        for key in keys:
            if (owned := self._ownership.get(key)) is not None:
                self._seek(key, owned.next)
        return [m for m in messages if _key(m) not in keys]

    def _hand_over(self, found: Collected) -> Polled:
        batches, at_end = [], set()
        for key, piece in found.pieces.items():
            owned = self._ownership.get(key)
            if owned is None:
                continue  # taken away meanwhile
            handed = owned.take(piece)
            if handed is None:
                self._seek(key, owned.next)
                continue
            if handed.batch is not None:
                batches.append(handed.batch)
            if handed.at_end:
                at_end.add(owned.partition)
        if found.pieces:
            self._trouble.all_well()
        lost, self._lost = self._lost, {}
        return Polled(tuple(batches), frozenset(at_end), lost)

    def _events(self, found: Collected) -> None:
        """Most pass by themselves. One that ends this consumer is raised; nothing was handed over then."""
        for message in found.troubles:
            error, key = message.error(), _key(message)
            assert error is not None
            if is_out_of_range(error) and self._ownership.get(key) is not None:
                self._stuck[key] = 0.0
            elif is_fatal_event(error):
                raise self._trouble.error(error)
            elif is_corrupt(error) and (owned := self._ownership.get(key)) is not None:
                found.pieces.pop(key, None)
                self._seek(key, owned.next)
                self._kept.append(self._trouble.unavailable(error))
            else:
                if is_odd_topic(error):
                    self._topics.hurry()
                log.warning("Kafka (connection %r), %s: %s", self._trouble.connection, key, error.str())

    def _free_stuck(self) -> None:
        """The log does not hold the position any more. What retention deleted is lost, and a gap when that was chosen; a log
        that ends before the position has lost records that we had read, which a person must look at."""
        if not self._stuck or not self._same_topics():
            return  # in a topic that was made again, an old position means nothing
        for key, not_before in list(self._stuck.items()):
            owned = self._ownership.get(key)
            if owned is None:
                del self._stuck[key]
            elif time.monotonic() >= not_before:
                self._stuck[key] = time.monotonic() + _STUCK_S
                low = self._admin.earliest([owned.partition])[owned.partition]
                high = self._admin.latest([owned.partition])[owned.partition]
                if owned.next > high:
                    raise Unavailable(
                        "Kafka",
                        f"connection {self._trouble.connection!r}",
                        f"{owned.partition} ends at offset {high}, before {owned.next} that this group had reached: the broker "
                        "has lost records (an unclean leader election?)",
                    )
                if owned.next < low:
                    self._lost[owned.partition] = lost_range(
                        self._on_lost_records, owned.partition, owned.next, low
                    )
                    log.error("%s: offsets [%d, %d) are lost", owned.partition, owned.next, low)
                self._seek(key, max(low, owned.next))
                del self._stuck[key]

    def _seek(self, key: Key, offset: int) -> None:
        """Fetch from `offset` next. A fetcher that has not begun, or that the broker's answer has stopped, cannot be moved:
        that one is begun anew."""
        at = TopicPartition(*key, offset)
        try:
            self._client.seek(at)
        except KafkaException:
            self._client.unassign([at])
            self._client.assign([at])
            if self._paused or key in self._unopened:
                self._client.pause([at])

    # -- rebalances (called inside `consume`) --------------------------------------------------------------------------

    def _on_assign(self, _raw: object, assigned: Sequence[TopicPartition]) -> None:
        del _raw  # a kept exception holds this frame, and must not hold the client
        if self._closing:
            self._client.assign(assigned)
            return
        keys = [(tp.topic, tp.partition) for tp in assigned]
        foreign = sorted(key for key in keys if not self._topics.watches(key[0]))
        if foreign:
            # Kafka keeps a static member's assignment although it asks for fewer topics now, and librdkafka's assignor leaves it
            # there in later rebalances too (seen with 2.16).
            log.warning("still assigned, of topics that are not consumed any more; not read: %s", foreign)
            self._client.assign(_named(foreign))
            self._client.pause(_named(foreign))
            keys = [key for key in keys if key not in foreign]
        self._moved.update(keys)
        try:
            self._open(keys)
        except BaseException as error:  # noqa: BLE001 -- comes out of poll
            self._kept.append(error)
        self._unopened.update(key for key in keys if self._ownership.get(key) is None)
        self._client.assign([TopicPartition(*key, self._start(key)) for key in keys])
        waiting = [key for key in keys if self._paused or key in self._unopened]
        if waiting:
            self._client.pause(_named(waiting))

    def _on_revoke(self, _raw: object, revoked: Sequence[TopicPartition]) -> None:
        del _raw
        if self._closing:
            self._client.unassign(revoked)
            return
        keys = [(tp.topic, tp.partition) for tp in revoked]
        try:
            if partitions := self._ownership.of(keys):
                self._listener.revoked(partitions)
        except BaseException as error:  # noqa: BLE001 -- comes out of poll
            self._kept.append(error)
        self._forget(keys)
        self._client.unassign(revoked)

    def _on_lost(self, _raw: object, lost: Sequence[TopicPartition]) -> None:
        del _raw
        if self._closing:
            self._client.unassign(lost)
            return
        keys = [(tp.topic, tp.partition) for tp in lost]
        partitions = self._ownership.of(keys)
        self._forget(keys)  # first: no offset of them leaves any more (case 29)
        try:
            if partitions:
                self._listener.lost(partitions)
        except BaseException as error:  # noqa: BLE001 -- comes out of poll
            self._kept.append(error)
        self._client.unassign(lost)

    def _open(self, keys: Sequence[Key]) -> None:
        if not keys or not self._topics.look(time.monotonic()):
            return  # the topic may have grown, or been made again
        openings = self._openings.look(self._client, keys)
        if openings:
            starts = self._listener.assigned(openings)
            self._ownership.add({o.partition: starts[o.partition] for o in openings})
            self._trouble.served = True

    def _start(self, key: Key) -> int:
        owned = self._ownership.get(key)
        return OFFSET_BEGINNING if owned is None else owned.next

    def _forget(self, keys: Sequence[Key]) -> None:
        self._ownership.remove(keys)
        self._unopened.difference_update(keys)
        gone = set(keys)
        self._moved |= gone
        for key in gone:
            self._stuck.pop(key, None)
        self._lost = {p: lost for p, lost in self._lost.items() if (p.topic, p.number) not in gone}
        self._held = [m for m in self._held if _key(m) not in gone]

    def _reopen(self) -> None:
        """Partitions whose opening failed: the ledger or Kafka may answer now."""
        if not self._unopened:
            return
        keys = sorted(self._unopened)
        self._open(keys)
        opened = [key for key in keys if self._ownership.get(key) is not None]
        self._unopened.difference_update(opened)
        for key in opened:
            self._seek(key, self._ownership[key].next)
        if not self._paused:
            self._client.resume(_named(opened))

    def _same_topics(self) -> bool:
        """Whether what is held belongs to the topics that we know: asked after it was fetched, or a record of a topic that was
        made again would pass for one of the old topic."""
        now = time.monotonic()
        known = self._topics.look(now if self._held or self._stuck else now - IDLE_AGE_S)
        self._renew_topics()
        return known

    def _renew_topics(self) -> None:
        """A topic was deleted and made again: the old partitions are lost, the new ones begin at their beginning (H11)."""
        keys = [
            k for k in self._ownership if self._ownership[k].partition.topic_id != self._topics.topic_id(k[0])
        ]
        if not keys:
            return
        partitions = self._ownership.of(keys)
        log.warning("deleted and made again under the same name: %s", ", ".join(map(str, partitions)))
        self._client.pause(_named(keys))
        self._forget(keys)
        self._unopened.update(keys)
        self._listener.lost(partitions)
        self._reopen()

    def _raise_kept(self) -> None:
        if self._kept:
            raise self._kept.pop(0)


def _key(message: Message) -> Key:
    return (message.topic() or "", message.partition() or 0)


def _named(keys: Iterable[Key]) -> list[TopicPartition]:
    return [TopicPartition(*key) for key in keys]
