"""Faults that leave all processes alone: links, sessions, Airflow's API, the group and the topic in Kafka."""

from demo.intruder import take_place_of
from demo.scene import EVIDENCE_DAG

from chaos.faults import choose
from chaos.stage import Hit, Stage

_PARTITIONS_AT_MOST = 12
_NEVER_FROZEN = "effects of workers"
"""An insert that arrives after a minute breaks what ``effect_timeout`` promises (S1 c): this link is only cut."""


def cut_link(stage: Stage, choice: float) -> Hit | None:
    return _link(stage, stage.stack.network.names, choice, "cut")


def freeze_link(stage: Stage, choice: float) -> Hit | None:
    return _link(stage, [n for n in stage.stack.network.names if n != _NEVER_FROZEN], choice, "frozen")


def expire_session(stage: Stage, choice: float) -> Hit | None:
    """No way to ZooKeeper for longer than the session's timeout."""
    hosts = [name for name in stage.stack.network.names if name.startswith("zookeeper of ")]
    return _link(stage, hosts, choice, "frozen")


def _link(stage: Stage, names: list[str], choice: float, state: str) -> Hit | None:
    name = choose([name for name in names if name not in stage.busy], choice)
    if name is None:
        return None
    stage.stack.network.change(name, state)
    return Hit(f"{name}: {state}", lambda: stage.stack.network.change(name, "whole"), (name,))


def clear_member(stage: Stage, choice: float) -> Hit | None:
    """A person clears a running or waiting member's task; Airflow ends it and runs it once more."""
    tasks = [t for t in stage.scene.api.tasks(stage.scene.dag) if t["state"] in ("running", "deferred")]
    task = choose(sorted(tasks, key=lambda t: int(t["map_index"])), choice)
    if task is None:
        return None
    stage.scene.api.clear(task)
    return Hit(f"{task['task_id']}[{task['map_index']}] try {task['try_number']}, {task['state']}")


def clear_evidence(stage: Stage, choice: float) -> Hit | None:
    """A person clears a task of an evidence run, whatever it does, with what follows it."""
    tasks = [t for t in stage.scene.api.tasks(EVIDENCE_DAG) if t["start_date"]]
    task = choose(sorted(tasks, key=lambda t: str(t["start_date"])), choice)
    if task is None:
        return None
    stage.scene.api.clear(task, downstream=True)
    return Hit(f"{task['task_id']} of {task['dag_run_id']}, {task['state']}")


def pause_dag(stage: Stage, choice: float) -> Hit | None:
    dag = choose([d for d in (stage.scene.dag, EVIDENCE_DAG) if f"DAG {d}" not in stage.busy], choice)
    if dag is None:
        return None
    stage.scene.api.pause(dag)
    return Hit(dag, lambda: stage.scene.api.unpause(dag), (f"DAG {dag}",))


def add_partition(stage: Stage, choice: float) -> Hit | None:  # noqa: ARG001 - there is one topic
    if stage.scene.topic.partitions >= _PARTITIONS_AT_MOST or "kafka" in stage.busy:
        return None
    return Hit(f"partition {stage.scene.topic.add_partition()}")


def refuse_commit(stage: Stage, choice: float) -> Hit | None:
    """Another consumer takes a member's place in Kafka and goes: the member's next offset commit is refused."""
    life = choose(stage.workers(), choice)
    if life is None or "kafka" in stage.busy:
        return None
    partitions = take_place_of(life.slot, stage.stack.kafka.address)
    return Hit(f"{life.slot.rpartition('.')[2]}: {partitions} partitions taken") if partitions else None
