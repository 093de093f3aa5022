"""What a contestant is told, as JSON, and what it answers; the settings that all of them share."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from airflow_kafka_exactly.adapters.kafka.config import consumer_config
from airflow_kafka_exactly.settings import (
    ChannelSettings,
    ElectionSettings,
    KafkaSettings,
    LedgerSettings,
    ServiceSettings,
)

SLOT = "benchmark.drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    kafka: str
    zookeeper: str
    ledger: str
    root: str
    """In ZooKeeper."""
    topic: str
    records: int
    batch: int
    commit_every_s: float
    group: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def services(self) -> ServiceSettings:
        """The defaults that users get."""
        return ServiceSettings(
            ledger=LedgerSettings(connection="ledger", conninfo=self.ledger),
            election=ElectionSettings(connection="zookeeper", hosts=self.zookeeper, root=self.root),
            channel=ChannelSettings(connection="channel", secret="a secret of the benchmark"),
        )

    def kafka_settings(self) -> KafkaSettings:
        return KafkaSettings(
            connection="kafka",
            config={"bootstrap.servers": self.kafka},
            group_id=self.group or "benchmark",
            topics=(self.topic,),
        )

    def client_config(self) -> dict[str, Any]:
        """Our member's client settings for a consumer that keeps its own positions: the client begins by itself at the
        beginning and stores what it has handed out, so that `commit()` has something to commit."""
        return {
            **consumer_config(self.kafka_settings(), SLOT),
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": True,
            "enable.partition.eof": False,
        }


class Stopwatch:
    """From the first records in hand to the last offset commit answered: neither joining nor leaving is draining."""

    def __init__(self) -> None:
        self._first = self._last = 0.0

    def records_came(self) -> None:
        self._first = self._first or time.perf_counter()

    def committed(self) -> None:
        self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._last - self._first


class Count:
    """The function that does nothing, but counts what it was given: a contestant that skips records would win."""

    def __init__(self) -> None:
        self.records = 0

    def one(self, _record: object) -> None:
        self.records += 1

    def many(self, records: list[Any]) -> None:
        self.records += len(records)
