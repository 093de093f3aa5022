"""Processes that do for a DAG's task what a triggerer or a worker does, to be killed.

One process imports everything and is then forked for each job, told by a line of JSON on its standard input:
`{"job": "trigger", "arguments": {...}}` runs a ConsumeTrigger in an event loop, `{"job": "resume", "operator": {...}, "event":
{...}}` the operator's `resume`. With `"stays": true` the process waits to be killed afterwards. Lines of JSON on its standard
output say which process does it (`pid`), and what came of it (`said`).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import Any, Self

from outcomes import EffectTable
from stage import context

from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.triggers import ConsumeTrigger

TABLES: dict[str, EffectTable] = {}


def apply(record: Record, conninfo: str, run: str) -> None:
    """The DAG's function: an insert without a unique key into the tests' own table."""
    if run not in TABLES:
        TABLES[run] = EffectTable(conninfo, run)
    TABLES[run](record)


class Host:
    """The parent's side."""

    def __init__(self) -> None:
        paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=paths, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._said: dict[int, queue.Queue[Any]] = {}
        self._started: queue.Queue[int] = queue.Queue()
        self._hearing = threading.Thread(target=self._hear)
        self._hearing.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._said:
            kill(pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._hearing.join(30)
        self._process.stdout.close()

    def start(self, **job: Any) -> int:
        """Give the job to a process of its own; its id."""
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return self._started.get(timeout=60)

    def said(self, pid: int, timeout_s: float = 60.0) -> Any:
        """What came of the job of that process, when it has ended."""
        return self._said[pid].get(timeout=timeout_s)

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "said" in told:
                self._said[told["pid"]].put(told["said"])
            else:
                self._said[told["pid"]] = queue.Queue()
                self._started.put(told["pid"])


def kill(pid: int) -> bool:
    """SIGKILL; whether it was still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# -- the processes -----------------------------------------------------------------------------------------------------


async def first_event(arguments: dict[str, Any]) -> Any:
    trigger = ConsumeTrigger(**arguments)
    try:
        async for event in trigger.run():
            return event.payload
    finally:
        await trigger.cleanup()


def resume(arguments: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """As a worker does: `deferred` are the arguments of the next trigger."""
    from airflow.sdk.exceptions import TaskDeferred

    operator = KafkaExactlyOnceOperator(task_id="consume", **arguments)
    try:
        return {"summary": operator.resume(context(), event)}
    except TaskDeferred as deferral:
        return {"deferred": deferral.trigger.serialize()[1]}
    except Exception as failure:  # noqa: BLE001 - the test looks at it
        return {"failed": f"{type(failure).__name__}: {failure}"}


def work(job: dict[str, Any]) -> Any:
    if job["job"] == "trigger":
        return asyncio.run(first_event(job["arguments"]))
    return resume(job["operator"], job["event"])


def say(answers: int, **told: Any) -> None:
    """One write, so that lines of several processes do not mix; events are small."""
    os.write(answers, (json.dumps({"pid": os.getpid(), **told}) + "\n").encode())


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # Airflow logs to the standard output
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in iter(sys.stdin.readline, ""):
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            say(answers)
            job = json.loads(line)
            say(answers, said=work(job))
            while job.get("stays"):
                signal.pause()
            os._exit(0)


if __name__ == "__main__":
    main()
