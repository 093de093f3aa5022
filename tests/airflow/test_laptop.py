"""`dag.test()` on a laptop: no coordinator, no triggerer; the worker leads, and the trigger runs inline."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from conftest import unique

from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

SCRIPT = """
from airflow.sdk import DAG
from airflow_kafka_exactly import KafkaExactlyOnceOperator

seen = []
with DAG("laptop", schedule=None) as dag:
    KafkaExactlyOnceOperator(
        task_id="consume", topics="{topic}", group_id="{group}", apply_function=lambda record: seen.append(record.value),
        until="forever", idle_timeout=3,
    )
if __name__ == "__main__":
    from airflow.utils import db
    db.initdb()
    run = dag.test()
    print("seen", sorted(map(int, seen)), run.state)
"""


def test_dag_test_consumes_defers_and_ends_with_the_worker_as_leader(
    kafka: str, zookeeper: str, database: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    from confluent_kafka import Producer

    migrate(LedgerSettings(connection="test", conninfo=database))
    name = topic(partitions=2)
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(50):
        producer.produce(name, b"%d" % number)
    assert producer.flush(30) == 0
    place = psycopg.conninfo.conninfo_to_dict(database)
    connections = {
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka}},
        "kafka_exactly_ledger": {
            "conn_type": "postgres",
            "host": place["host"],
            "port": int(str(place["port"])),
            "login": place["user"],
            "password": place["password"],
            "schema": place["dbname"],
        },
        "kafka_exactly_zookeeper": {
            "conn_type": "generic",
            "host": zookeeper,
            "extra": {"root": f"/{unique('root')}"},
        },
        "kafka_exactly_channel": {"conn_type": "generic", "password": "a secret of the tests"},
    }
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__KAFKA_EXACTLY__WORKER_CONTENDS": "True",
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
    }
    script = tmp_path / "dags" / "laptop.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(topic=name, group=unique("group")))
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert f"seen {list(range(50))} success" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
