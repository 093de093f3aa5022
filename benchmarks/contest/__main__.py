"""One run of one contestant; its last line on stdout is the answer. `coordinator` leads until stdin is closed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from airflow_kafka_exactly import wiring
from contest import airflow_operator, member, plain
from contest.plan import Count, Plan, Stopwatch

CONTESTANTS: dict[str, Callable[[Plan, Count, Stopwatch], None]] = {
    "plain": plain.drain,
    "member_record": member.drain_records,
    "member_batch": member.drain_batches,
    "airflow_operator": airflow_operator.drain,
}


def main(name: str) -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    if name == "coordinator":
        wiring.clusters.resolve_with(lambda _: {"bootstrap.servers": plan.kafka}, "kafka")
        with wiring.coordinator(plan.services()):
            sys.stdin.read()
        return
    count, watch = Count(), Stopwatch()
    CONTESTANTS[name](plan, count, watch)
    print(json.dumps({"records": count.records, "seconds": watch.seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
