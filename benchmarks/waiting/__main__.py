"""The runner's process: told its plan by a line of JSON, it answers with one."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from waiting.measures import connections, used
from waiting.plan import Plan

WARM_S = 5.0


async def watch(plan: Plan) -> dict[str, Any]:
    from airflow_kafka_exactly.triggers import ConsumeTrigger
    from waiting.runner import Neighbours, Runner

    runner = Runner()
    neighbours = Neighbours(runner, int(plan.kafka.split(",")[0].rpartition(":")[2]))
    rest = [asyncio.create_task(runner.rounds()), asyncio.create_task(runner.block_watchdog())]
    rest.append(asyncio.create_task(neighbours.go_on()))
    await asyncio.sleep(WARM_S)
    neighbours.forget()
    before, began = used(), time.monotonic()
    ours = [runner.add(ConsumeTrigger, plan.arguments(number)) for number in range(plan.triggers)]
    ended: dict[int, Any] = {}
    while runner.waiting() + len(ended) < plan.triggers and time.monotonic() < began + plan.start_s:
        await asyncio.sleep(0.2)
        ended = {e.trigger_id: e.event.payload for _, e in runner.events if e.trigger_id in ours}
    starting = {"seconds": time.monotonic() - began, **neighbours.said()}
    neighbours.forget()
    steady, since = used(), time.monotonic()
    await asyncio.sleep(plan.watch_s)
    after = used()
    why = Counter(payload.get("ending") or payload.get("error") for payload in ended.values())
    found = {
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "waiting": runner.waiting(),
        "sent_back": dict(why),
        "before": before,
        "after": after,
        "cpu_share": (after["cpu_s"] - steady["cpu_s"]) / (time.monotonic() - since),
        "connections": connections(_services(plan)),
        "starting": starting,
        "steady": neighbours.said(),
    }
    for task in [*rest, *(details["task"] for details in runner.triggers.values())]:
        task.cancel()
    return found


def _services(plan: Plan) -> dict[int, str]:
    kafka = {int(one.rpartition(":")[2]): "kafka" for one in plan.kafka.split(",")}
    own = {"AIRFLOW_CONN_KAFKA_EXACTLY_LEDGER": "postgres"}
    ports = {int(json.loads(os.environ[name])["port"]): said for name, said in own.items()}
    return {**kafka, **ports, int(plan.zookeeper.rpartition(":")[2]): "zookeeper"}


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)  # only a privileged process may raise it
    resource.setrlimit(resource.RLIMIT_NOFILE, (plan.soft, min(plan.hard, allowed)))
    os.environ |= plan.connections()
    answers = os.dup(1)
    os.dup2(2, 1)  # Airflow logs to the standard output
    with tempfile.TemporaryDirectory(prefix="kafka-exactly-airflow-") as home:
        os.environ["AIRFLOW_HOME"] = home
        found = asyncio.run(watch(plan))
        os.write(answers, (json.dumps(found) + "\n").encode())
    os._exit(0)  # consumers that leave their groups take their time


if __name__ == "__main__":
    main()
