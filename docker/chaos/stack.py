"""The local stack with an ensemble of three ZooKeeper servers, and a link of its own from each host to each service.

A *host* is what could be a machine: the workers, each triggerer, the stand-alone coordinator.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from localstack import AirflowStack, Kafka, Service, ZooKeeper
from localstack.airflow import Airflow, Component
from localstack.connections import CHANNEL_SECRET, EFFECTS, LEDGER, connections
from localstack.ports import LOOPBACK, free_port

from chaos.links import Link, Network

WORKERS = "workers"
#: The channel's links listen on another loopback address than the leaders behind them, on the same port.
_CHANNEL_HOST = "127.0.0.2"
_LISTENERS = """
# Later lines win: members reach the broker through a link, the producer and the observer directly.
listeners=PLAINTEXT://{host}:{port},LINK://{host}:{inner},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},LINK://{host}:{link}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""


class LinkedKafka(Kafka):
    """``address`` leads around the link, ``linked_address`` through it."""

    def __init__(self, state: Path, network: Network) -> None:
        super().__init__(state)
        self._inner = free_port()
        self._link = network.link("kafka of all", self._inner)

    @property
    def linked_address(self) -> str:
        return f"{LOOPBACK}:{self._link.port}"

    def prepare(self) -> None:
        super().prepare()
        text = _LISTENERS.format(
            host=LOOPBACK,
            port=self.port,
            inner=self._inner,
            controller=self.controller,
            link=self._link.port,
        )
        with self._properties.open("a") as file:
            file.write(text)


class Host(Component):
    """An Airflow process with connections of its own."""

    def __init__(
        self, airflow: Airflow, name: str, *words: str, health: str = "", own: Mapping[str, str]
    ) -> None:
        super().__init__(airflow, name, *words, health=health)
        self._own = own

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._own}


class ChaosStack(AirflowStack):
    """``contenders`` maps the port that a contender's channel is known by to the service that hosts it."""

    def __init__(self, state: Path, *, dags: Path, network: Network, say: Callable[[str], None]) -> None:
        super().__init__(state, dags=dags, say=say)
        self.network = network
        self.kafka: LinkedKafka = LinkedKafka(self.state, network)
        self.ensemble = ZooKeeper.ensemble(self.state)
        self._effects = network.link("effects of workers", self.postgres.port)
        self.airflow.environment.update(self._connections(WORKERS))
        triggerers = [t.name for t in self.airflow.triggerers]
        self.airflow.triggerers = [
            self._host(name, "triggerer", "--skip-serve-logs", health="triggerer") for name in triggerers
        ]
        self.airflow.coordinator = self._host("coordinator", "kafka-exactly", "coordinator")
        self.contenders = {
            int(link.port): self.service(link.name.removeprefix("channel of "))
            for link in network.links
            if link.name.startswith("channel of ")
        }

    @property
    def foundation(self) -> list[Service]:
        return [self.postgres, *self.ensemble, self.kafka]

    def service(self, name: str) -> Service:
        return next(service for service in self.services if service.name == name)

    def _host(self, name: str, *words: str, health: str = "") -> Host:
        own = self._connections(name)
        port = free_port()
        self.network.link(f"channel of {name}", port, host=_CHANNEL_HOST, port=port)
        extra = {"bind": LOOPBACK, "advertise": _CHANNEL_HOST, "port": port}
        channel = {"conn_type": "generic", "host": LOOPBACK, "password": CHANNEL_SECRET, "extra": extra}
        own["AIRFLOW_CONN_KAFKA_EXACTLY_CHANNEL"] = json.dumps(channel)
        return Host(self.airflow, name, *words, health=health, own=own)

    def _connections(self, host: str) -> dict[str, str]:
        """Environment variables with the Airflow connections of this host, each through its own links."""
        zookeeper = [self.network.link(f"zookeeper of {host}", server.port) for server in self.ensemble]
        ledger = self.network.link(f"ledger of {host}", self.postgres.port)
        found = connections(
            kafka=self.kafka.linked_address,
            zookeeper=",".join(f"{LOOPBACK}:{link.port}" for link in zookeeper),
            ledger=self._through(ledger, LEDGER),
            effects=self._through(self._effects, EFFECTS),
        )
        return {f"AIRFLOW_CONN_{name.upper()}": value for name, value in found.items()}

    def _through(self, link: Link, database: str) -> str:
        return self.postgres.conninfo(database).replace(f":{self.postgres.port}/", f":{link.port}/")
