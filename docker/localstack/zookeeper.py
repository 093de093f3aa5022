"""One ZooKeeper server, or one member of an ensemble."""

import socket
from pathlib import Path

from localstack.jars import java
from localstack.ports import LOOPBACK, free_port
from localstack.service import Service

# tickTime 500: sessions from 1 s up (two ticks) are granted, so that tests of lost leaders need not wait.
# The admin server would need Jetty, which is not among the jars.
CONFIGURATION = """\
clientPortAddress={host}
clientPort={port}
dataDir={data}
tickTime=500
initLimit=20
syncLimit=10
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


class ZooKeeper(Service):
    """``address`` is what kazoo calls ``hosts``."""

    def __init__(
        self, state: Path, *, name: str = "zookeeper", port: int | None = None, keep: bool = False
    ) -> None:
        super().__init__(name, state, keep=keep)
        self.port = port or free_port()
        self.peer_port, self.election_port = free_port(), free_port()
        self.number = 1
        self.servers: list[str] = []

    @classmethod
    def ensemble(cls, state: Path, size: int = 3, *, keep: bool = False) -> list["ZooKeeper"]:
        """Members of one ensemble; ``launch`` all before ``wait_ready``, a majority must be up to serve."""
        members = [cls(state, name=f"zookeeper-{number}", keep=keep) for number in range(1, size + 1)]
        servers = [
            f"server.{number}={LOOPBACK}:{member.peer_port}:{member.election_port}"
            for number, member in enumerate(members, start=1)
        ]
        for number, member in enumerate(members, start=1):
            member.number, member.servers = number, servers
        return members

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        (data / "myid").write_text(f"{self.number}\n")
        text = CONFIGURATION.format(host=LOOPBACK, port=self.port, data=data)
        self._configuration.write_text(text + "".join(f"{server}\n" for server in self.servers))

    def command(self) -> list[str]:
        options = ("-Xms32m", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dzookeeper.jmx.log4j.disable=true")
        return java(
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self._configuration), options=options
        )

    def ready(self) -> bool:
        """Whether it serves: a member without a majority answers too, but with another sentence."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1.0) as connection:
                connection.sendall(b"srvr")
                return b"Mode:" in connection.makefile("rb").read()
        except OSError:
            return False

    @property
    def _configuration(self) -> Path:
        return self.folder / "zoo.cfg"
