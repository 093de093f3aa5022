"""Records all the time, at a bounded rate, whatever else happens."""

import json
import random
import threading
import time
from typing import Any

from confluent_kafka import KafkaException, Producer
from demo.payments import TOPIC, Topic

RECORDS_PER_SECOND = 70
_TURN_SECONDS = 0.1
_FOCUS_SECONDS = 6.0
_MEMBERS_MAY_IDLE = 0.5
_DELIVERY_MS = (
    600_000  # longer than any outage here: an idempotent producer that never gives up leaves no gap
)
_FLUSH_SECONDS = 120.0


class Producing:
    """A thread that produces until ``stop``. From time to time only some partitions get records, so that members go idle."""

    def __init__(self, topic: Topic, bootstrap: str, seed: int) -> None:
        self._topic, self._random = topic, random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": _DELIVERY_MS,
                "log_level": 0,
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)
        self.stored: set[tuple[int, int]] = set()
        self.failed: list[str] = []
        self._ends: dict[int, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> str:
        """What went wrong, or an empty string."""
        self._stop.set()
        self._thread.join(_FLUSH_SECONDS)
        left = self._producer.flush(_FLUSH_SECONDS)
        return (
            f"{left} records undelivered, {len(self.failed)} failed: {self.failed[:1]}"
            if left or self.failed
            else ""
        )

    def ends(self) -> dict[int, int]:
        """Partition to the offset after the last record that the broker has confirmed."""
        return dict(self._ends)

    def _run(self) -> None:
        sent, focus_until = 0, 0.0
        focus: list[int] = []
        while not self._stop.wait(_TURN_SECONDS):
            now = time.monotonic()
            if now > focus_until:
                focus, focus_until = self._focus(), now + _FOCUS_SECONDS
            # After an outage of this process the rate stays what it is: a backlog of turns is not made up for.
            due = int(RECORDS_PER_SECOND * _TURN_SECONDS)
            for _ in range(due):
                self._produce(sent, focus[sent % len(focus)])
                sent += 1
            self._producer.poll(0)

    def _focus(self) -> list[int]:
        everything = list(range(self._topic.partitions))
        if self._random.random() < _MEMBERS_MAY_IDLE:
            return everything
        return self._random.sample(everything, max(1, len(everything) // 3))

    def _produce(self, number: int, partition: int) -> None:
        payment = {"reference": f"payment-{number:06}", "cents": 100 + number % 9_900}
        value = json.dumps(payment).encode()
        try:
            self._producer.produce(TOPIC, value, partition=partition, on_delivery=self._delivered)
        except (BufferError, KafkaException) as error:  # a partition that its metadata do not know yet
            if not isinstance(error, BufferError) and "UNKNOWN_PARTITION" not in str(error):
                self.failed.append(str(error))

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            # Never sent: the producer's metadata did not have the added partition yet.
            if error.name() != "_UNKNOWN_PARTITION":
                self.failed.append(str(error))
            return
        place = message.partition(), message.offset()
        self.stored.add(place)
        self._ends[place[0]] = max(self._ends.get(place[0], 0), place[1] + 1)
