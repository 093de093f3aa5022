"""The yardstick: consume, call the function, commit. No guarantee beyond Kafka's own."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException

from contest.plan import Count, Plan, Stopwatch


def drain(plan: Plan, count: Count, watch: Stopwatch) -> None:
    consumer = Consumer(plan.client_config())
    consumer.subscribe([plan.topic])
    due_at = float("-inf")
    while count.records < plan.records:
        messages = consumer.consume(plan.batch, 0.1)
        if not messages:
            continue
        watch.records_came()
        for message in messages:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            count.one(message)
        if time.monotonic() >= due_at or count.records == plan.records:
            due_at = time.monotonic() + plan.commit_every_s
            consumer.commit(asynchronous=False)
    watch.committed()
    consumer.close()
