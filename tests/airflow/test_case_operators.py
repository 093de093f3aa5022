"""Cases 3, 15, 18, 21 and 53: the operator's `execute` on real services, with the connections a user defines."""

from __future__ import annotations

import copy
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import applied
import psycopg
import pytest
import stage
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred
from confluent_kafka import Consumer, TopicPartition
from conftest import create_topic, unique
from localstack.ports import free_port
from outcomes import new_database, unsettled
from world import World, eventually, make_world

from airflow_kafka_exactly import hooks, wiring
from airflow_kafka_exactly.adapters.postgres import migrate
from airflow_kafka_exactly.adapters.postgres.schema import FUNCTIONS, newest_version
from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.until import Until

pytestmark = pytest.mark.integration

WITHIN_S = 30.0
"""Case 21."""


@pytest.fixture(scope="module")
def shared(kafka: str, zookeeper: str, postgres: str) -> Iterator[World]:
    with new_database(postgres) as database:
        world = make_world(kafka, zookeeper, database, "")
        with world.coordinator():
            yield world


@pytest.fixture
def world(shared: World, monkeypatch: pytest.MonkeyPatch) -> World:
    topic = create_topic(shared.kafka, unique("topic"), 2, {})
    made = replace(shared, topic=topic, group=unique("group"))
    stage.define(monkeypatch, stage.connections(made))
    # A guard that does not end this process because the machine is busy.
    stage.configure(monkeypatch, lease_s=45, lease_margin_s=5)
    return made


def execute(world: World, **arguments: Any) -> dict[str, Any]:
    return stage.operator(world, session_timeout=45, **arguments).execute(stage.context())


# -- what works --------------------------------------------------------------------------------------------------------


def test_case_53_a_hundred_thousand_records_are_one_task_run(world: World) -> None:
    for partition in range(2):
        world.produce([b"x"] * 50_000, partition)
    summary = execute(world)
    assert applied.of(world.topic) == {(p, offset): 1 for p in range(2) for offset in range(50_000)}
    assert summary["counts"]["applied"] == 100_000
    assert summary["counts"]["deferrals"] == 0, "one task run, and one stint of it"
    assert not unsettled(world)
    # Case 15: ranges and counts by outcome, the same size for a record or a hundred thousand.
    assert summary["version"] == 1
    assert [(r["start"], r["stop"]) for r in summary["ranges"]] == [(0, 50_000)] * 2
    assert len(json.dumps(summary)) < 2000


def test_case_15_the_summary_holds_no_payload(world: World) -> None:
    secret = b"4111-1111-1111-1111"
    world.produce([secret] * 5)
    summary = execute(world)
    assert summary["counts"]["applied"] == 5
    assert secret.decode() not in json.dumps(summary)


@pytest.mark.parametrize("as_path", [True, False])
def test_case_18_function_and_arguments_reach_it_unchanged(world: World, as_path: bool) -> None:
    args = [1, "two", {"three": [None, 4.0]}]
    kwargs = {"mode": "x", "nested": {"a": (1, 2)}}
    given, given_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)
    world.produce([b"x"] * 3)
    applied.ARGUMENTS.clear()
    execute(
        world,
        apply_function="applied.apply" if as_path else applied.apply,
        apply_function_args=args,
        apply_function_kwargs=kwargs,
    )
    assert [(tuple(given), given_kwargs)] * 3 == applied.ARGUMENTS
    assert (args, kwargs) == (given, given_kwargs)
    assert applied.of(world.topic) == {(0, offset): 1 for offset in range(3)}


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(world: World, match: str, final: bool, **arguments: Any) -> None:
    """Within 30 s, with an error that says which service and which setting; tried again only when that may help."""
    begun = time.monotonic()
    try:
        with pytest.raises(AirflowException, match=match) as caught:
            execute(world, **arguments)
    except TaskDeferred:
        pytest.fail("it was deferred")
    assert time.monotonic() - begun < WITHIN_S
    assert isinstance(caught.value, AirflowFailException) == final
    assert not applied.of(world.topic)


@pytest.mark.parametrize("key", ["enable.auto.commit", "enable.auto.offset.store"])
def test_case_03_a_connection_that_commits_by_itself_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    world.produce([b"x"])
    extra = {"bootstrap.servers": world.kafka, key: True}
    stage.define(monkeypatch, {stage.KAFKA: {"conn_type": "kafka", "extra": extra}})
    refused(world, rf"Kafka connection 'kafka_test' sets {key}=True", final=True)


def test_case_03_unset_is_turned_off(world: World) -> None:
    """The members of all these tests have it unset; after a run only what was settled is committed."""
    world.produce([b"x"] * 10)
    execute(world, max_records=3, max_batch_size=3)
    with psycopg.connect(world.services.ledger.conninfo) as connection:
        rows = connection.execute(
            "select frontier, committed from kafka_exactly.partition where group_id = %s and frontier > 0",
            [world.group],
        ).fetchall()
    assert rows
    assert all(committed <= frontier for frontier, committed in rows)


def unknown_kafka(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.KAFKA]["extra"] = {"bootstrap.servers": "no-such-host.invalid:9092"}


def new_protocol(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.KAFKA]["extra"]["group.protocol"] = "consumer"


def wrong_ledger(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.LEDGER]["port"] = free_port()


def unknown_ledger(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.LEDGER]["host"] = "no-such-host.invalid"


def wrong_password(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.LEDGER]["password"] = "wrong"


def wrong_database(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.LEDGER]["schema"] = "nowhere"


def no_schema(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.LEDGER]["schema"] = "postgres"


def unknown_zookeeper(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.ZOOKEEPER]["host"] = "no-such-host.invalid:2181"


def short_secret(defined: dict[str, dict[str, Any]]) -> None:
    defined[stage.CHANNEL]["password"] = "short"


WRONG: list[tuple[Callable[[dict[str, dict[str, Any]]], None], str, bool]] = [
    (unknown_kafka, r"Kafka.*'kafka_test'.*bootstrap\.servers.*no-such-host", False),
    (new_protocol, r"Kafka connection 'kafka_test' sets group\.protocol='consumer'", True),
    (wrong_ledger, r"PostgreSQL \(kafka_exactly_ledger\) is unavailable", False),
    (unknown_ledger, r"PostgreSQL.*kafka_exactly_ledger.*no-such-host.*host", True),
    (wrong_password, r"PostgreSQL.*kafka_exactly_ledger.*password authentication failed.*password", True),
    (wrong_database, r"PostgreSQL.*kafka_exactly_ledger.*nowhere.*schema \(database\)", True),
    (no_schema, r"PostgreSQL.*kafka_exactly_ledger.*airflow kafka-exactly migrate", True),
    (unknown_zookeeper, r"ZooKeeper.*kafka_exactly_zookeeper", False),
    (short_secret, r"kafka_exactly_channel.*16 characters", True),
]


@pytest.mark.parametrize(("spoil", "match", "final"), WRONG, ids=[w[0].__name__ for w in WRONG])
def test_case_21_a_wrong_connection_is_named_in_time(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[dict[str, dict[str, Any]]], None],
    match: str,
    final: bool,
) -> None:
    world.produce([b"x"])
    defined = stage.connections(world)
    spoil(defined)
    stage.define(monkeypatch, defined)
    refused(world, match, final)


def test_case_21_a_missing_topic_is_named(world: World) -> None:
    refused(
        world,
        r"Kafka \(connection 'kafka_test'\) has no topic 'nowhere': create it",
        final=True,
        topics=["nowhere"],
    )


@pytest.mark.parametrize(("change", "match"), [(-1, "airflow kafka-exactly migrate"), (1, "Upgrade")])
def test_case_21_another_schema_version_is_refused(
    world: World, postgres: str, monkeypatch: pytest.MonkeyPatch, change: int, match: str
) -> None:
    with new_database(postgres) as database:
        migrate(replace(world.services.ledger, conninfo=database))
        with psycopg.connect(database) as connection:
            connection.execute("delete from kafka_exactly.schema_version")
            if newest_version() + change:
                connection.execute(
                    "insert into kafka_exactly.schema_version (version, name) values (%s, 'x')",
                    [newest_version() + change],
                )
            if change > 0:  # whose functions serve nobody that calls those of today
                connection.execute(
                    f"comment on schema kafka_exactly is 'functions {FUNCTIONS + 1} serve {FUNCTIONS + 1}'".encode()
                )
        elsewhere = replace(
            world, services=replace(world.services, ledger=replace(world.services.ledger, conninfo=database))
        )
        stage.define(monkeypatch, stage.connections(elsewhere))
        refused(world, rf"PostgreSQL.*kafka_exactly_ledger.*{match}", final=True)


def test_case_21_a_group_with_a_plain_consumer_is_refused(world: World) -> None:
    plain = Consumer(
        {"bootstrap.servers": world.kafka, "group.id": world.group, "auto.offset.reset": "earliest"}
    )
    plain.subscribe([world.topic])
    eventually("the plain consumer is in", lambda: plain.poll(0.1) or plain.assignment())
    try:
        refused(world, rf"consumer group '{world.group}' has members.*group_id of its own", final=True)
    finally:
        plain.close()


def test_case_21_offsets_of_a_plain_consumer_are_refused_and_may_be_adopted(world: World) -> None:
    world.produce([b"before", b"after"])
    plain = Consumer({"bootstrap.servers": world.kafka, "group.id": world.group})
    plain.commit(offsets=[TopicPartition(world.topic, 0, 1)], asynchronous=False)
    plain.close()
    refused(world, rf"committed offset 1 of {world.topic}\[0\].*adopt_offsets=True", final=True)
    execute(world, adopt_offsets=True)
    assert applied.of(world.topic) == {(0, 1): 1}


def test_f4_business_keys_are_refused_by_this_version(world: World) -> None:
    """Counterexample F4 (a redo without its key) needs them: until every claim holds its key, nobody may ask for one."""
    with pytest.raises(ConfigurationError, match="identity='key': choose one of 'offset'"):
        stage.operator(world, identity="key")


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "step"),
    [(hooks, "service_settings"), (Membership, "_refuse_strangers"), (Membership, "_enter_directory")],
)
def test_a_signal_while_the_membership_opens_ends_the_task(
    world: World, monkeypatch: pytest.MonkeyPatch, place: Any, step: str
) -> None:
    """Airflow's handler of SIGTERM calls `on_kill` and nothing else, at whatever moment it comes."""
    world.produce([b"x"] * 100)
    operator = stage.operator(world, session_timeout=45, until="forever", deferrable=False)
    opens = getattr(place, step)

    def killed_meanwhile(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return opens(*given)

    monkeypatch.setattr(place, step, killed_meanwhile)
    before = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    try:
        with pytest.raises(AirflowException, match="stopped"):
            operator.execute(stage.context())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_case_16_a_resumed_task_ends_at_its_deadline(world: World) -> None:
    """Airflow starts the whole `execution_timeout` anew with each resume."""
    world.produce([b"x"])
    operator = stage.operator(
        world, session_timeout=45, until="forever", deferrable=False, apply_function=lambda _: time.sleep(120)
    )
    event = {
        "ending": "records",
        "summary": Summary().as_dict(),
        "until": Until(to_end=False).as_dict(),
        "deadline": time.time() + 4,
    }
    begun = time.monotonic()
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout has passed"):
        operator.resume(stage.context(), event)
    assert time.monotonic() - begun < 60


def test_a_task_whose_ids_join_to_anothers_name_is_refused_and_runs_none_of_its_records(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAG `sales`, group `eu`, task `pay` and DAG `sales.eu`, task `pay`: one default group, one slot, two tasks."""
    world.produce([b"x"] * 3)
    assert execute(world)["counts"]["applied"] == 3
    world.produce([b"x"] * 2)

    def other(**more: Any) -> dict[str, Any]:
        context = stage.context()
        context["ti"].dag_id, context["ti"].task_id = "da", "g.consume"
        return stage.operator(world, session_timeout=45, **more).execute(context)

    belongs = r"belongs to DAG 'dag', task 'consume'; this is DAG 'da', task 'g\.consume'"
    with pytest.raises(AirflowFailException, match=belongs):
        other()
    assert len(applied.of(world.topic)) == 3
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        before = ledgers.member.move_group(world.group, "da", "g.consume", "ada")
    assert before == ("dag", "consume")
    assert other()["counts"]["applied"] == 2
    with pytest.raises(AirflowFailException, match="belongs to DAG 'da'"):
        execute(world)
    assert applied.of(world.topic) == {(0, offset): 1 for offset in range(5)}
