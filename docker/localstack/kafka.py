"""One Kafka broker in KRaft mode, which is its own controller, or one node of a cluster."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from localstack.jars import java
from localstack.ports import LOOPBACK, accepts, free_port
from localstack.service import Service, ServiceError

_FORMAT_SECONDS = 60.0
_METADATA_SECONDS = 2.0
PROPERTIES = """\
process.roles={roles}
node.id={number}
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# A copy on each broker. Few internal partitions: each is a folder that a start has to open.
offsets.topic.replication.factor={brokers}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={brokers}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={brokers}
share.coordinator.state.topic.min.isr=1
# A group forms at once, and tests may ask for short sessions; the defaults are 3 s and 6 s.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A broker that was killed is let in again when its old session is over; the default is 9 s.
broker.session.timeout.ms=6000
# A topic that does not exist must be an error that a test can see.
auto.create.topics.enable=false
"""


class Kafka(Service):
    """``address`` is the value of ``bootstrap.servers``."""

    def __init__(
        self, state: Path, *, name: str = "kafka", port: int | None = None, keep: bool = False
    ) -> None:
        super().__init__(name, state, keep=keep)
        self.port = port or free_port()
        self.controller = free_port()
        self.cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.nodes = [self]

    @classmethod
    def cluster(cls, state: Path, size: int = 3, *, keep: bool = False) -> list["Kafka"]:
        """Brokers of one cluster. The first is the controller: start it first and stop it last."""
        nodes = [cls(state, keep=keep)]
        nodes += [cls(state, name=f"kafka-{number}", keep=keep) for number in range(2, size + 1)]
        for node in nodes:
            node.nodes, node.cluster_id, node.controller = (
                nodes,
                nodes[0].cluster_id,
                nodes[0].controller,
            )
        return nodes

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def number(self) -> int:
        """Its ``node.id``."""
        return self.nodes.index(self) + 1

    def prepare(self) -> None:
        data = self.folder / "data"
        roles, listeners = "broker", f"PLAINTEXT://{LOOPBACK}:{self.port}"
        if self.number == 1:
            roles, listeners = (
                f"{roles},controller",
                f"{listeners},CONTROLLER://{LOOPBACK}:{self.controller}",
            )
        text = PROPERTIES.format(
            host=LOOPBACK,
            port=self.port,
            controller=self.controller,
            data=data,
            number=self.number,
            roles=roles,
            listeners=listeners,
            brokers=len(self.nodes),
        )
        self._properties.write_text(text)  # each time: data of an earlier run may be opened on other ports
        if not data.exists():
            self._format()

    def command(self) -> list[str]:
        return java(
            "kafka.Kafka",
            str(self._properties),
            options=("-Xms128m", "-Xmx512m" if self.number == 1 else "-Xmx256m"),
        )

    def ready(self) -> bool:
        if not accepts(self.port):
            return False
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            return self.number in admin.list_topics(timeout=_METADATA_SECONDS).brokers
        except KafkaException:
            return False

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        # One word, because an id may begin with a dash.
        arguments = ("format", f"--cluster-id={self.cluster_id}", "--config", str(self._properties))
        done = subprocess.run(
            java("kafka.tools.StorageTool", *arguments, options=("-XX:TieredStopAtLevel=1",)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FORMAT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
