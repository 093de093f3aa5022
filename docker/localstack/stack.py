"""The services of one state folder, started together."""

from collections.abc import Callable
from pathlib import Path

from localstack import state as state_file
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

    def __init__(self, state: Path, *, keep: bool = False, say: Callable[[str], None] = print) -> None:
        self.state = state.resolve()
        self.kafka = Kafka(self.state, keep=keep)
        self.zookeeper = ZooKeeper(self.state, keep=keep)
        self.postgres = PostgreSQL(self.state, keep=keep)
        self.say = say

    @property
    def services(self) -> list[Service]:
        """In the order in which they start; they stop in the reverse one."""
        return [self.postgres, self.zookeeper, self.kafka]

    def up(self) -> None:
        """Start all of them side by side; when one fails, none is left running."""
        require("java", "mvn", "postgres", "setpriv")
        self.say("fetching Kafka and ZooKeeper (only the first time)")
        jars()
        self.start(self.services)

    def down(self) -> None:
        for service in reversed(self.services):
            service.stop()
        state_file.end_all(self.state)

    def start(self, services: list[Service]) -> None:
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
