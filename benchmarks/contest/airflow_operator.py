"""Airflow's own `ConsumeFromTopicOperator`, executed directly, with the same client settings from its connection."""

from __future__ import annotations

import json
import os
from typing import Any

from contest.plan import Count, Plan, Stopwatch


def drain(plan: Plan, count: Count, watch: Stopwatch) -> None:
    os.environ["AIRFLOW_CONN_BENCHMARK"] = json.dumps(
        {"conn_type": "kafka", "extra": {k: v for k, v in plan.client_config().items() if not callable(v)}}
    )
    from airflow.providers.apache.kafka.operators.consume import ConsumeFromTopicOperator

    operator = ConsumeFromTopicOperator(
        task_id="drain",
        topics=[plan.topic],
        kafka_config_id="BENCHMARK",
        apply_function=count.one,
        commit_cadence="end_of_batch",
        max_messages=plan.records,  # instead of waiting out the poll time-out at the end of the log
        max_batch_size=plan.batch,
        poll_timeout=10.0,
    )
    operator.hook = _TimedHook(operator.hook, watch)
    operator.execute({})


class _TimedHook:
    """The operator's hook, with a stopwatch around the consumer that it gives."""

    def __init__(self, hook: Any, watch: Stopwatch) -> None:
        self._hook, self._watch = hook, watch
        self.get_connection = hook.get_connection

    def get_consumer(self) -> Any:
        return _TimedConsumer(self._hook.get_consumer(), self._watch)


class _TimedConsumer:
    """What the operator calls. Its offset commits do not wait for their answers, so the last one counts when it was asked."""

    def __init__(self, consumer: Any, watch: Stopwatch) -> None:
        self._consumer, self._watch = consumer, watch
        self.close = consumer.close

    def consume(self, num_messages: int, timeout: float) -> Any:
        messages = self._consumer.consume(num_messages=num_messages, timeout=timeout)
        if messages:
            self._watch.records_came()
        return messages

    def commit(self) -> None:
        self._consumer.commit()
        self._watch.committed()
