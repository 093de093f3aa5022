"""What contenders and clients share: where the services are, and the settings that users get."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_kafka_exactly.settings import ChannelSettings, ElectionSettings, LedgerSettings, ServiceSettings

CLUSTER = "cluster"
GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    zookeeper: str
    ledger: str
    root: str
    """In ZooKeeper."""
    session_timeout_s: float = 6.0
    trust_s: float = 4.0

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Plan:
        return cls(**json.loads(path.read_text()))

    def services(self) -> ServiceSettings:
        return ServiceSettings(
            ledger=LedgerSettings(connection="ledger", conninfo=self.ledger, pool_max=8),
            election=ElectionSettings(
                connection="zookeeper",
                hosts=self.zookeeper,
                root=self.root,
                session_timeout_s=self.session_timeout_s,
                trust_s=self.trust_s,
            ),
            channel=ChannelSettings(connection="channel", secret="a secret of the benchmark"),
        )
