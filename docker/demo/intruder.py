"""A second consumer with the ``group.instance.id`` of a running member, as a copy of a worker that everybody took for dead.

Kafka then fences the older of the two: its next offset commit is refused (FENCED_INSTANCE_ID).
"""

import time

from confluent_kafka import Consumer

from demo.payments import GROUP, TOPIC

_JOIN_SECONDS = 20.0


def take_place_of(slot: str, bootstrap: str) -> int:
    """Join as ``slot`` and go at once; returns how many partitions Kafka handed over (0: it never let us in).

    Nothing is committed and the group is not left, so that the member finds its place again when it rejoins.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "group.instance.id": slot,
            "client.id": "intruder",
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([TOPIC])
    try:
        deadline = time.monotonic() + _JOIN_SECONDS
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(0.1)
        return len(consumer.assignment())
    finally:
        consumer.close()
