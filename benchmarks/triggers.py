"""`make triggers`: many waiting triggers in one of Airflow's trigger runners, beside the triggers of others.

Starts a Kafka cluster and lets one process, which begins with the given limits of open files, run all triggers. It says what
they cost, how many of them had to stay in their workers, and whether the others' triggers fired in time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic
from scene import database, services
from waiting.plan import Plan

from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.settings import LedgerSettings

_WAIT_S, _MORE_S = 60.0, 120.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--triggers", type=int, default=300)
    parser.add_argument("--groups", type=int, default=30, help="consumer groups that they share")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument(
        "--soft", type=int, default=1024, help="limit of open files that the process begins with"
    )
    parser.add_argument("--hard", type=int, default=65_536, help="what it may be raised to")
    parser.add_argument("--watch", type=float, default=60.0, help="seconds to look at them when all wait")
    given = vars(parser.parse_args())
    with services(given.pop("brokers")) as addresses:
        print(json.dumps(measure(addresses, watch_s=given.pop("watch"), **given), indent=2))


def measure(addresses: tuple[str, str, str], *, triggers: int, groups: int, **limits: Any) -> dict[str, Any]:
    """One run on these services: Kafka, ZooKeeper, PostgreSQL."""
    kafka, zookeeper, postgres = addresses
    name = f"waiting_{uuid.uuid4().hex[:12]}"
    with database(postgres, name), _topic(kafka, name, partitions=3 * -(-triggers // groups)):
        where = psycopg.conninfo.conninfo_to_dict(postgres)
        login = f"{where['user']}:{where['password']}@{where['host']}:{where['port']}"
        plan = Plan(
            kafka=kafka,
            zookeeper=zookeeper,
            ledger=f"postgresql://{login}/{name}",
            root=f"/{name}",
            topic=name,
            triggers=triggers,
            groups=groups,
            **limits,
        )
        migrate(LedgerSettings(connection="ledger", conninfo=plan.ledger))
        return _run(plan)


def _run(plan: Plan) -> dict[str, Any]:
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "waiting"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        input=plan.as_json() + "\n",
        capture_output=True,
        text=True,
        timeout=plan.start_s + plan.watch_s + _MORE_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the triggers' process failed:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "said_no_room": done.stderr.count("no room for one more waiting member")}


@contextlib.contextmanager
def _topic(kafka: str, name: str, partitions: int) -> Iterator[None]:
    """So many that each member of a group has three, led by different brokers."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(_WAIT_S)
    try:
        yield
    finally:
        admin.delete_topics([name])[name].result(_WAIT_S)


if __name__ == "__main__":
    main()
