"""What Kafka has deleted and what its client cannot read, on real Kafka, ZooKeeper and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import raw_headers
from brokers import RealCluster
from world import Effects, World, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import RecordsLost
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Ending

pytestmark = pytest.mark.integration


@pytest.fixture
def led(kafka: str, zookeeper: str, database: str, topic: Callable[..., str]) -> Iterator[World]:
    """A world with a leader."""
    world = make_world(kafka, zookeeper, database, topic())
    with world.coordinator():
        yield world


@pytest.mark.parametrize("unit", [False, True], ids=["one by one", "batches"])
def test_a_header_that_cannot_be_read_is_one_dead_letter(led: World, unit: bool) -> None:
    """Any bytes are a header's name for Kafka, but not for its client: the partition was blocked for ever."""
    effects = Effects()

    def apply(records: Any) -> None:
        for record in records if unit else [records]:
            effects(record)

    led.produce([b"0", b"1"])
    raw_headers.produce(led.kafka, led.topic, b"\x00 odd", (b"\xff\xfe", b"content"))
    led.produce([b"3", b"4"])
    member = led.run("dag.task", UserFunction(apply=apply, unit=unit), led.until_end())
    assert member.ended() is Ending.END
    assert sorted(effects.seen) == [(0, 0), (0, 1), (0, 3), (0, 4)]
    assert not effects.repeated
    assert member.summary.counts["dead_letters"] == 1
    with wiring.shared_ledger(led.services.ledger) as ledgers:
        (row,) = ledgers.report.dead_letters(led.group)
    assert (row["offset"], row["attempts"]) == (2, 0)
    assert f"{led.topic}[0] offset 2" in row["reason"]
    with psycopg.connect(led.services.ledger.conninfo) as connection:
        assert connection.execute("select value from kafka_exactly.dead_letter").fetchall() == [
            (b"\x00 odd",)
        ]


def test_l2_records_that_retention_deleted_stop_the_task_or_are_listed(led: World) -> None:
    effects = Effects()
    function = UserFunction(apply=effects)
    led.produce([b"%d" % i for i in range(20)])
    led.run("dag.task", function, led.until_end()).ended()
    led.produce([b"%d" % i for i in range(20, 50)])
    RealCluster(led.kafka).delete_before(led.topic, 0, 35)

    with pytest.raises(RecordsLost, match=r"offsets \[20, 35\)"):
        led.run("dag.task", function, led.until_end()).ended()
    assert len(effects.seen) == 20

    led.member = {"kafka": replace(led.kafka_settings(), on_lost_records="skip")}
    going_on = led.run("dag.task", function, led.until_end())
    assert going_on.ended() is Ending.END
    assert sorted(offset for _, offset in effects.seen) == [*range(20), *range(35, 50)]
    assert not effects.repeated
    assert going_on.summary.counts["offsets_lost"] == 15
    with wiring.shared_ledger(led.services.ledger) as ledgers:
        (row,) = ledgers.report.lost(led.group)
    assert (row["topic"], row["partition"], row["start"], row["stop"]) == (led.topic, 0, 20, 35)
