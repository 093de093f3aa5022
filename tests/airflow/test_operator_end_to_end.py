"""The operator in Airflow's own processes: workers, triggerers, deferral, XCom."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from airflow_api import Api, wait_for
from confluent_kafka import Producer
from conftest import create_topic, unique
from localstack import AirflowStack

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(420)]

DAG_FILE = """
import os, time
import psycopg
from airflow.sdk import DAG
from airflow_kafka_exactly import KafkaExactlyOnceOperator

def insert(record, label):
    with psycopg.connect({effects!r}, autocommit=True) as connection:
        connection.execute(
            "insert into {table} values (%s, %s, %s)", (record.partition, record.offset, label)
        )

with DAG("{dag}", schedule=None, catchup=False):
    KafkaExactlyOnceOperator.partial(
        task_id="consume", topics=["{topic}"], group_id="{group}", apply_function=insert,
        apply_function_args=["{{{{ dag.dag_id }}}}"], {options}
    ).expand(max_batch_size={sizes})
"""


class Consumption:
    """One DAG with `members` mapped members on a topic of its own, and where its effects go."""

    def __init__(self, stack: AirflowStack, *, members: int, options: str) -> None:
        self._stack, self.api = stack, Api(stack.airflow.url)
        self.dag, self.group, self.table = unique("dag"), unique("group"), unique("effect")
        self.topic = create_topic(stack.kafka.address, unique("topic"), 3, {})
        with psycopg.connect(stack.effects, autocommit=True) as connection:
            connection.execute(
                f"create table {self.table} (partition_number int, record_offset bigint, label text)"
            )
        text = DAG_FILE.format(
            dag=self.dag,
            topic=self.topic,
            group=self.group,
            table=self.table,
            effects=stack.effects,
            options=options,
            sizes=[50 + i for i in range(members)],
        )
        (stack.dags / f"{self.dag}.py").write_text(text)

    def produce(self, records_per_partition: int) -> None:
        producer = Producer({"bootstrap.servers": self._stack.kafka.address})
        for partition in range(3):
            for number in range(records_per_partition):
                producer.produce(self.topic, b"%d" % number, partition=partition)
        assert producer.flush(30) == 0

    def start(self) -> str:
        """Unpause and trigger; returns the run id."""
        wait_for(lambda: self.api.found(f"/api/v2/dags/{self.dag}"), 120)
        self.api.call("PATCH", f"/api/v2/dags/{self.dag}", {"is_paused": False})
        run: str = self.api.call("POST", f"/api/v2/dags/{self.dag}/dagRuns", {"logical_date": None})[
            "dag_run_id"
        ]
        return run

    def tasks(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.call(
            "GET", f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances"
        )["task_instances"]
        return found

    def states(self, run: str) -> list[str | None]:
        return [task["state"] for task in self.tasks(run)]

    def summaries(self, run: str) -> list[dict[str, Any]]:
        place = f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances/consume/xcomEntries/return_value"
        return [
            self.api.call("GET", f"{place}?map_index={task['map_index']}&deserialize=true")["value"]
            for task in self.tasks(run)
        ]

    def effects(self) -> list[tuple[int, int]]:
        with psycopg.connect(self._stack.effects) as connection:
            found: list[tuple[int, int]] = connection.execute(
                f"select partition_number, record_offset from {self.table} order by 1, 2"
            ).fetchall()
        return found


Consume = Callable[..., Consumption]


@pytest.fixture
def consume(airflow_stack: AirflowStack) -> Consume:
    return lambda **arguments: Consumption(airflow_stack, **arguments)


def test_case_53_and_15_two_mapped_members_drain_a_topic_in_one_task_run_each(consume: Consume) -> None:
    consumption = consume(members=2, options="until='end'")
    consumption.produce(300)
    run = consumption.start()
    wait_for(lambda: consumption.states(run) == ["success"] * 2, 240)
    assert consumption.effects() == [(partition, offset) for partition in range(3) for offset in range(300)]
    summaries = consumption.summaries(run)
    assert {s["version"] for s in summaries} == {1}
    assert sum(s["counts"]["applied"] for s in summaries) == 900
    assert {task["try_number"] for task in consumption.tasks(run)} == {1}
    assert "payload" not in str(summaries)


def test_a_member_waits_in_the_triggerer_and_wakes_for_records(consume: Consume) -> None:
    """With retries: a loaded Airflow scheduler may read the end of a deferred worker's process only when the task has been
    resumed and runs again, and then fails it (seen once). What it had done is known all the same."""
    options = (
        "until='forever', idle_timeout=20, retries=3, retry_delay=__import__('datetime').timedelta(seconds=1)"
    )
    consumption = consume(members=1, options=options)
    consumption.produce(10)
    run = consumption.start()
    wait_for(lambda: consumption.states(run) == ["deferred"], 120)
    assert len(consumption.effects()) == 30
    consumption.produce(10)
    wait_for(lambda: len(consumption.effects()) == 60, 120)
    wait_for(lambda: consumption.states(run) == ["success"], 120)
    assert len(set(consumption.effects())) == len(consumption.effects()) == 60
    (task,), (summary,) = consumption.tasks(run), consumption.summaries(run)
    if task["try_number"] == 1:  # a retry's summary is its own
        assert summary["counts"]["applied"] == 60
    assert summary["counts"]["deferrals"] >= 1


def test_case_07_a_cancelled_deferred_task_frees_its_consumer(
    consume: Consume, airflow_stack: AirflowStack
) -> None:
    consumption = consume(members=1, options="until='forever'")
    consumption.produce(1)
    run = consumption.start()
    wait_for(lambda: consumption.states(run) == ["deferred"], 120)

    def lives() -> list[tuple[str, str]]:
        with psycopg.connect(airflow_stack.ledger) as connection:
            found: list[tuple[str, str]] = connection.execute(
                "select kind, state from kafka_exactly.member_life where group_id = %s order by incarnation",
                (consumption.group,),
            ).fetchall()
        return found

    wait_for(lambda: lives()[-1] == ("trigger", "current"), 60)
    (task,) = consumption.tasks(run)
    consumption.api.call(
        "PATCH",
        f"/api/v2/dags/{consumption.dag}/dagRuns/{run}/taskInstances/consume/{task['map_index']}",
        {"new_state": "failed"},
    )
    wait_for(lambda: lives()[-1] == ("trigger", "closed"), 15)


def test_case_16_execution_timeout_counts_while_deferred(consume: Consume) -> None:
    consumption = consume(
        members=1, options="until='forever', execution_timeout=__import__('datetime').timedelta(seconds=20)"
    )
    consumption.produce(1)
    run = consumption.start()
    wait_for(lambda: consumption.states(run) == ["deferred"], 120)
    wait_for(lambda: consumption.states(run) == ["failed"], 120)
    assert len(consumption.effects()) == 3


def test_case_21_a_topic_that_does_not_exist_fails_at_once_and_says_so(
    consume: Consume, airflow_stack: AirflowStack
) -> None:
    consumption = consume(members=1, options="until='end', retries=3")
    path = airflow_stack.dags / f"{consumption.dag}.py"
    path.write_text(path.read_text().replace(consumption.topic, "no_such_topic"))
    run = consumption.start()
    wait_for(lambda: consumption.states(run) == ["failed"], 120)
    (task,) = consumption.tasks(run)
    assert task["try_number"] == 1, "trying again changes nothing"
    logs = consumption.api.call(
        "GET", f"/api/v2/dags/{consumption.dag}/dagRuns/{run}/taskInstances/consume/logs/1?map_index=0"
    )
    assert "no_such_topic" in str(logs)
