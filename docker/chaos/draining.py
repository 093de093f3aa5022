"""After the last fault: everything whole and running, then until nothing is pending, then the ledger against Kafka."""

import time

from confluent_kafka import KafkaException
from demo.payments import GROUP
from demo.scene import EVIDENCE_DAG
from demo.settling import pending_in
from localstack import ServiceError

from chaos.nemesis import Nemesis
from chaos.observing import WORLD_ERRORS
from chaos.stage import Stage

_DRAIN_SECONDS = 420.0  # and as long as the faults took: the backlog grows with them
_SAY_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 20.0
_TURN_SECONDS = 0.5


def drain(stage: Stage, nemesis: Nemesis, faults_seconds: float) -> list[str]:
    """What is still pending after a bounded time; empty when all is settled."""
    deadline = time.monotonic() + _DRAIN_SECONDS + faults_seconds
    said = asked = time.monotonic()
    pending = ["nothing was looked at yet"]
    while pending and time.monotonic() < deadline:
        nemesis.heal_all()
        nemesis.tick()
        pending = _pending(stage)
        now = time.monotonic()
        if pending and now - said > _SAY_SECONDS:
            said = now
            stage.scene.say(f"         pending: {'; '.join(pending)}")
        if pending and now - asked > _ASK_AGAIN_SECONDS:
            asked = now
            _check_again(stage)
        time.sleep(_TURN_SECONDS)
    if pending:
        pending.append(_members(stage))
    return pending


def _pending(stage: Stage) -> list[str]:
    try:
        return pending_in(stage.scene)
    except (*WORLD_ERRORS, KafkaException) as error:
        return [f"cannot be asked yet: {error}".splitlines()[0]]


def _members(stage: Stage) -> str:
    try:
        return stage.scene.describe_members()
    except (*WORLD_ERRORS, KafkaException) as error:
        return str(error)


def _check_again(stage: Stage) -> None:
    """A check that could not be answered while its database was away has asked a person. A person who sees that it is back
    lets the check be asked again: clears the run's ``check``, with what follows."""
    try:
        tasks = stage.scene.api.tasks(EVIDENCE_DAG)
        runs = {
            t["dag_run_id"] for t in tasks if t["task_id"] == "ask" and t["state"] in ("deferred", "failed")
        }
        for task in tasks:
            if task["task_id"] == "check" and task["dag_run_id"] in runs:
                stage.scene.say(f"         {task['dag_run_id']} asks a person: its check is asked again")
                stage.scene.api.clear(task, downstream=True)
    except WORLD_ERRORS:
        return


def reconcile(stage: Stage) -> str:
    """What `airflow kafka-exactly reconcile` objects to; empty when it agrees."""
    try:
        stage.stack.airflow.run("kafka-exactly", "reconcile", "--group", GROUP)
    except ServiceError as error:
        return str(error)
    return ""
