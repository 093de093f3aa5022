"""The services of one state folder, started together."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from localstack import state as state_file
from localstack.airflow import Airflow
from localstack.connections import EFFECTS, LEDGER, METADATA, connections
from localstack.jars import jars
from localstack.kafka import Kafka
from localstack.postgres import PostgreSQL
from localstack.prerequisites import require
from localstack.service import Service
from localstack.zookeeper import ZooKeeper


class Stack:
    """Kafka, ZooKeeper and PostgreSQL with their data and logs in ``state``.

    With ``keep`` they outlive this process and are ended by ``python -m localstack down``.
    """

    def __init__(
        self, state: Path, *, brokers: int = 1, keep: bool = False, say: Callable[[str], None] = print
    ) -> None:
        self.state = state.resolve()
        self.keep = keep
        self.brokers = Kafka.cluster(self.state, brokers, keep=keep)
        self.kafka = self.brokers[0]
        self.zookeeper = ZooKeeper(self.state, keep=keep)
        self.postgres = PostgreSQL(self.state, keep=keep)
        self.say = say

    @property
    def bootstrap(self) -> str:
        """``bootstrap.servers`` with every broker."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def foundation(self) -> list[Service]:
        """What runs without Airflow; started side by side."""
        return [self.postgres, self.zookeeper, *self.brokers]

    @property
    def services(self) -> list[Service]:
        """In the order in which they start; they stop in the reverse one."""
        return self.foundation

    def up(self) -> None:
        """Start everything; when a part fails, nothing is left running."""
        require("java", "mvn", "postgres", "setpriv")
        self.say("Kafka's and ZooKeeper's programs (fetched the first time)")
        jars()
        self.start(self.foundation)

    def down(self) -> None:
        """Stop everything; data and logs stay."""
        for service in reversed(self.services):
            service.stop()
        state_file.end_all(self.state)

    def clear(self) -> None:
        """Stop everything and delete data and logs, so that ``up`` starts from nothing."""
        self.down()
        self.postgres.remove()
        shutil.rmtree(self.state, ignore_errors=True)

    def start(self, services: Sequence[Service]) -> None:
        """Launch these side by side and wait until each is ready."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            for service in services:
                service.launch()
            for service in services:
                service.wait_ready()
                self.say(f"{service.name} is ready at {service.address}")
        except BaseException:
            self.down()
            raise
        state_file.write(self.state, [service for service in self.services if service.running])


class AirflowStack(Stack):
    """The same with Airflow: scheduler, DAG processor, API server, two triggerers, and one stand-alone coordinator."""

    def __init__(
        self, state: Path, *, dags: Path, keep: bool = False, say: Callable[[str], None] = print
    ) -> None:
        super().__init__(state, keep=keep, say=say)
        self.dags = dags
        self.ledger = self.postgres.conninfo(LEDGER)
        self.effects = self.postgres.conninfo(EFFECTS)
        self.airflow = Airflow(
            self.state,
            database=self.postgres.conninfo(METADATA),
            dags=dags,
            connections=connections(
                kafka=self.kafka.address,
                zookeeper=self.zookeeper.address,
                ledger=self.ledger,
                effects=self.effects,
            ),
            keep=keep,
        )

    @property
    def services(self) -> list[Service]:
        return [*super().services, *self.airflow.services]

    def up(self) -> None:
        super().up()
        try:
            for database in (METADATA, LEDGER, EFFECTS):
                self.postgres.create_database(database)
            self.airflow.migrate()
        except BaseException:
            self.down()
            raise
        self.say("Airflow's metadata and the ledger are migrated")
        self.start(self.airflow.services)
