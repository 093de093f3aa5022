"""Whose a consumer group is, in memory. A slot is named by its task inside of its group, so two tasks in one group would take
each other's slots, and each would run the other's released doubts."""

from __future__ import annotations

from airflow_kafka_exactly.adapters.memory.ledger_state import LedgerState
from airflow_kafka_exactly.errors import ConfigurationError, GroupInUse
from airflow_kafka_exactly.protocol.claims import OpenLife
from airflow_kafka_exactly.protocol.storable import require_name, storable


def own_group(state: LedgerState, request: OpenLife) -> None:
    """The first life's task owns the group."""
    if request.dag_id:
        state.owners.setdefault(request.group_id, (request.dag_id, request.task_id))


def require_owner(state: LedgerState, request: OpenLife) -> None:
    task, group = (request.dag_id, request.task_id), request.group_id
    owner = state.owners.get(group, task)
    if request.dag_id and owner != task:
        raise GroupInUse(
            f"consumer group {group!r} belongs to DAG {owner[0]!r}, task {owner[1]!r}; this is DAG {task[0]!r}, task "
            f"{task[1]!r}. Give the operator a group_id of its own; if DAG or task were renamed: "
            "airflow kafka-exactly groups move"
        )


def move_group(
    state: LedgerState, group_id: str, dag_id: str, task_id: str, by: str
) -> tuple[str, str] | None:
    require_name("the DAG", dag_id)
    require_name("the task", task_id)
    lives = [row for life, row in state.lives.items() if life.group_id == group_id]
    if not lives:
        raise ConfigurationError(f"consumer group {group_id!r} is not known to the ledger")
    alive = [row for row in lives if not row.over and row.lease_until > state.clock.now()]
    if alive:
        raise GroupInUse(f"consumer group {group_id!r} is at work ({alive[0]}): end its task first")
    before = state.owners.get(group_id)
    state.owners[group_id] = (dag_id, task_id)
    state.note("group", 0, "moved", storable(by))
    return before
