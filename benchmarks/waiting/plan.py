"""What the runner's process is told, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_kafka_exactly.runtime.until import Until

KAFKA = "kafka_waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    kafka: str
    zookeeper: str
    ledger: str
    """A conninfo URI."""
    root: str
    """In ZooKeeper."""
    topic: str
    triggers: int
    groups: int
    soft: int
    hard: int
    """Limits of open files that the process begins with."""
    watch_s: float
    """So long it is looked at when nobody starts any more."""
    start_s: float = 300.0
    """At most so long they may take to start."""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def connections(self) -> dict[str, str]:
        """Environment variables, as a user would define the connections."""
        ledger = urlsplit(self.ledger)
        defined: dict[str, dict[str, Any]] = {
            KAFKA: {"conn_type": "kafka", "extra": {"bootstrap.servers": self.kafka}},
            "kafka_exactly_ledger": {
                "conn_type": "postgres",
                "host": ledger.hostname,
                "port": ledger.port,
                "login": ledger.username,
                "password": ledger.password,
                "schema": ledger.path.removeprefix("/"),
            },
            "kafka_exactly_zookeeper": {
                "conn_type": "generic",
                "host": self.zookeeper,
                "extra": {"root": self.root},
            },
            "kafka_exactly_channel": {"conn_type": "generic", "password": "a secret of the benchmark"},
        }
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in defined.items()}

    def arguments(self, number: int) -> dict[str, Any]:
        """Of one `ConsumeTrigger`: groups of several tasks' slots, as mapped tasks have them."""
        slot = f"waiting.consume[{number}]"
        return {
            "kafka_config_id": KAFKA,
            "group_id": f"{self.topic}-{number % self.groups}",
            "topics": [self.topic],
            "slot": slot,
            "owner": slot,
            "dag_id": "waiting",
            "task_id": "consume",
            "session_timeout_s": 45.0,
            "max_batch_records": 100,
            "on_busy": "fail",
            "adopt_offsets": False,
            "until": Until(to_end=False).as_dict(),
            "summary": {},
            "deadline": None,
        }
