"""The only holder of librdkafka's consumer, so that letting go of it ends it.

`Consumer.close()` is never called: while it runs, a callback of a rebalance asks the client's main thread, which may have ended
already, and waits for it without end *holding the interpreter's lock*: every thread of the process stands still (seen with
confluent-kafka 2.16 when a rebalance was due at the close). A consumer that is dropped instead is destroyed at once, without
callbacks and without leaving the group, which is just what the slot's next life needs. Only an assignment that still waits for
its callback must be served before: the client's main thread would wait for it without end, in a busy loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

log = logging.getLogger(__name__)

CLOSE_S: Final = 4.0
_LAST_EVENTS: Final = 1000


class Client:
    """Every method raises `KafkaException` (`_DESTROY`) once it is closed. A call that is under way in another thread holds
    the client alive until it returns; no frame of a traceback does, because nobody else ever has it in a variable."""

    def __init__(self, raw: Consumer) -> None:
        self._raw: Consumer | None = raw

    def _open(self) -> Consumer:
        if self._raw is None:
            raise KafkaException(KafkaError(KafkaError._DESTROY))  # noqa: SLF001 -- the client's public name for it
        return self._raw

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        return self._open().consume(count, timeout_s)

    def commit(self, offsets: list[TopicPartition]) -> list[TopicPartition]:
        return self._open().commit(offsets=offsets, asynchronous=False) or []

    def committed(self, partitions: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        return self._open().committed(partitions, timeout=timeout_s)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._open().incremental_assign(list(partitions))

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        self._open().incremental_unassign(list(partitions))

    def seek(self, partition: TopicPartition) -> None:
        self._open().seek(partition)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._open().pause(list(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._open().resume(list(partitions))

    def close(self) -> None:
        """By the polling thread, with callbacks that only obey. Returns within `CLOSE_S`; an end that takes longer goes on in a
        thread of its own."""
        if self._raw is None:
            return
        self._serve_callbacks()
        ending = threading.Thread(target=self._drop, name="kafka-exactly-close", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            log.warning(
                "closing a Kafka consumer takes longer than %s s; it goes on in the background", CLOSE_S
            )

    def _serve_callbacks(self) -> None:
        """A rebalance that waits has paused every partition, so no message can stand before its callback, only events."""
        try:
            for _ in range(_LAST_EVENTS):
                messages = self.consume(1, 0)
                if not messages or messages[0].error() is None:
                    return
        except KafkaException as failed:
            log.debug("the last poll before a close: %s", failed)

    def _drop(self) -> None:
        self._raw = None  # destroys it here, or when the last call under way returns
