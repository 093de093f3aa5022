"""The evidence-check DAG, made by a factory: `evidence_check_dag()` in a file of the DAGs folder is all there is to write.

    gather (waits in the triggerer) → weigh → check → ask (a person, only the undecidable) → settle

`CoordinatorTrigger` watches its asset, so unpausing this DAG also starts a contender for leadership in the triggerer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, get_current_context, task

from airflow_kafka_exactly.evidence_tasks import (
    FAILED,
    AskPerson,
    Case,
    GatherDoubts,
    check_doubts,
    settle_rulings,
    weigh_doubts,
)
from airflow_kafka_exactly.triggers import CoordinatorTrigger

DOUBTS = "kafka_exactly_doubts"
"""The asset whose events announce doubts."""


def evidence_check_dag(
    dag_id: str = "kafka_exactly_evidence_check",
    *,
    response_timeout: timedelta = timedelta(days=1),
    wait_at_most: timedelta = timedelta(minutes=10),
    ask: Mapping[str, Any] | None = None,
    **dag_options: Any,
) -> DAG:
    """Make the DAG that settles doubts.

    :param response_timeout: how long a person may take; then the case stays open, the run fails, and it is asked again.
    :param wait_at_most: how long a run waits until its doubts can be judged; what still waits is announced again.
    :param ask: further arguments of `HITLOperator`, such as `assigned_users` and `notifiers`.
    :param dag_options: further arguments of the DAG.
    """
    with DAG(dag_id, **{**_defaults(), **dag_options}) as dag:
        gather = GatherDoubts(task_id="gather", wait_at_most=wait_at_most)
        # What is called here gets the results of earlier tasks, not yet known while the DAG is read.
        weighed = task(task_id="weigh")(weigh_doubts)(gather.output)  # type: ignore[arg-type]
        to_ask = task(task_id="check")(check_doubts)(weighed)  # type: ignore[arg-type]
        how = {"response_timeout": response_timeout, "params": {"note": AskPerson.note}, **(ask or {})}
        AskPerson.partial(task_id="ask", **how).expand(case=to_ask) >> settle()
    return dag


@task(trigger_rule="all_done")  # also when nobody had to be asked, and when a question failed
def settle() -> dict[str, int]:
    """Write people's rulings."""
    ti = get_current_context()["ti"]
    asked: list[Case] | None = ti.xcom_pull(task_ids="check", map_indexes=None)
    answers = ti.xcom_pull(task_ids="ask", map_indexes=range(len(asked or ())))
    failed: dict[str, str] = {}
    for task_id in ("weigh", "check"):
        failed |= ti.xcom_pull(task_ids=task_id, key=FAILED) or {}
    return settle_rulings(asked, answers or (), failed)


def _defaults() -> dict[str, Any]:
    return {
        "description": "Settles the records of which nobody knows yet whether their effect has happened",
        "doc_md": __doc__,
        "schedule": Asset(
            DOUBTS, watchers=[AssetWatcher(name=f"{DOUBTS}_coordinator", trigger=CoordinatorTrigger())]
        ),
        "is_paused_upon_creation": False,
        "catchup": False,
        # A run whose question is open counts as active: with few of them, unanswered people would stop the evidence of
        # everybody else's records (L1). Nothing here minds company, and a waiting run takes no worker.
        "max_active_runs": 1000,
        "default_args": {"retries": 3, "retry_delay": timedelta(seconds=10)},
        "tags": ["kafka-exactly"],
        "params": _form(),
    }


def _form() -> dict[str, Param]:
    """For runs by hand. Empty: every open doubt."""
    text, number = ["null", "string"], ["null", "integer"]
    return {
        "group": Param(None, type=text, title="Consumer group"),
        "topic": Param(None, type=text, title="Topic", description="Empty: look at every open doubt"),
        "partition": Param(None, type=number, minimum=0, title="Partition"),
        "start": Param(None, type=number, minimum=0, title="First offset"),
        "stop": Param(None, type=number, minimum=0, title="Stop before offset"),
    }
