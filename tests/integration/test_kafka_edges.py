"""What Kafka has deleted and what its client cannot read, on real Kafka, ZooKeeper and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
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
