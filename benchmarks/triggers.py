"""`make triggers`: many waiting triggers in one of Airflow's trigger runners, beside the triggers of others.

Starts a Kafka cluster and lets one process, which begins with the given limits of open files, run all triggers. It says what
they cost, how many of them had to stay in their workers, and whether the others' triggers fired in time.
"""

from __future__ import annotations

import argparse
import json
import uuid
from typing import Any

import psycopg
from scene import database, program, services, topic
from waiting.plan import Plan

from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.settings import LedgerSettings

_MORE_S = 120.0


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
    # So many partitions that each member of a group has three, led by different brokers.
    with database(postgres, name), topic(kafka, name, partitions=3 * -(-triggers // groups)):
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
    done = program(["waiting"], plan.as_json(), plan.start_s + plan.watch_s + _MORE_S)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "said_no_room": done.stderr.count("no room for one more waiting member")}


if __name__ == "__main__":
    main()
