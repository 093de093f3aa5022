"""`airflow kafka-exactly …` on a real ledger, for people and for programs."""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import unique
from doubts import raw
from ledger_stage import PostgresStage

from airflow_kafka_exactly import commands
from airflow_kafka_exactly.adapters.postgres import Ledgers, migrate, open_ledger
from airflow_kafka_exactly.protocol.claims import (
    ClaimPart,
    ClaimRequest,
    Decision,
    LifeKind,
    Opening,
    OpenLife,
    Segment,
    Verdict,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@pytest.fixture
def connections(database: str, zookeeper: str, kafka: str, monkeypatch: pytest.MonkeyPatch) -> LedgerSettings:
    parts = psycopg.conninfo.conninfo_to_dict(database)
    host, _, port = zookeeper.partition(":")
    defined: dict[str, Any] = {
        "KAFKA_EXACTLY_LEDGER": {
            "conn_type": "postgres",
            "host": parts["host"],
            "port": int(parts.get("port") or 5432),
            "login": parts.get("user"),
            "password": parts.get("password"),
            "schema": parts["dbname"],
        },
        "KAFKA_EXACTLY_ZOOKEEPER": {
            "conn_type": "generic",
            "host": host,
            "port": int(port),
            "extra": {"root": f"/{unique('commands')}"},
        },
        "KAFKA_EXACTLY_CHANNEL": {"conn_type": "generic", "password": "0123456789abcdef"},
        "KAFKA_DEFAULT": {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka}},
    }
    for name, fields in defined.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(fields))
    return LedgerSettings(connection="test", conninfo=database)


@pytest.fixture
def ledgers(connections: LedgerSettings) -> Iterator[Ledgers]:
    migrate(connections)
    opened = open_ledger(connections)
    yield opened
    opened.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(command: Callable[[Any], None], **options: Any) -> str:
        defaults = {"output": "table", "verbose": True, "group": None, "all": False, "kafka_config_id": ""}
        capsys.readouterr()
        command(argparse.Namespace(**{**defaults, **options}))
        return capsys.readouterr().out

    return call


def raise_a_doubt(ledgers: Ledgers, topic: str, topic_id: str = "topic-id", group: str = "g") -> None:
    """A record whose function raised: an open doubt at offset 0 of group g."""
    opening = OpenLife(
        group_id=group,
        cluster_id="c",
        slot="dag.task[0]",
        owner="dag/run/task/0",
        kind=LifeKind.WORKER,
        process="h:1",
        lease_s=20,
    )
    life = ledgers.member.open_life(opening)
    place = Partition(topic_id, 0, topic)
    ledgers.member.open_partitions(life, "c", [Opening(place, 0, False)])
    epoch = ledgers.leader.raise_epoch("me")
    batch = PartitionBatch(place, OffsetRange(0, 1), (raw(0),))
    part = ClaimPart(batch, (Segment(OffsetRange(0, 1), False),))
    (claim,) = ledgers.member.claim(ClaimRequest(life, epoch, 1, (part,))).granted
    ledgers.member.raise_doubt(life, claim, [raw(0)], 1, "ValueError: no")


def test_migrate_says_what_it_did_and_may_be_run_again(connections: LedgerSettings, run: Any) -> None:
    first = json.loads(run(commands.migrate, output="json"))
    assert (first["schema"], first["before"]) == ("kafka_exactly", 0)
    assert "is up to date" in run(commands.migrate)


def test_case_21_a_command_without_a_schema_says_what_to_run(connections: LedgerSettings, run: Any) -> None:
    with pytest.raises(SystemExit, match="airflow kafka-exactly migrate"):
        run(commands.doubts)


def test_case_21_a_command_without_a_connection_names_it(run: Any) -> None:
    with pytest.raises(SystemExit, match=r"PostgreSQL.*connection 'kafka_exactly_ledger'.*is not defined"):
        run(commands.doubts)


def test_doubts_are_listed_for_people_and_for_programs(ledgers: Ledgers, run: Any) -> None:
    assert "doubts: none" in run(commands.doubts)
    raise_a_doubt(ledgers, "payments")
    assert "ValueError: no" in run(commands.doubts)
    (row,) = json.loads(run(commands.doubts, output="json"))
    assert (row["topic"], row["start"], row["kind"], row["state"]) == ("payments", 0, "raised", "open")
    assert json.loads(run(commands.doubts, output="json", group="another")) == []


def test_a_person_gives_up_doubts_whose_payload_does_not_come(connections: LedgerSettings, run: Any) -> None:
    stage = PostgresStage(connections.conninfo)
    stage.doubt(stage.life("a"), 8, 9)
    life = stage.life("b")
    stage.mark(life, stage.claim(life, 0, 3), 3, 0)
    stage.die(life)
    bare, stored = [facts.doubt_id for facts in stage.doubts()]
    with pytest.raises(SystemExit) as ended:
        run(commands.close_doubts, doubts=[bare, stored], reason="the topic is history")
    assert ended.value.code == 1, "one of them has its payload, and can be judged"
    assert stage.outcomes() == {(0, 3): "lost", (8, 9): None}
    rows = json.loads(run(commands.doubts, output="json", all=True))
    assert [row["evidence"]["note"] for row in rows if row["outcome"]] == ["the topic is history"]
    assert "1 lost doubts" in run(commands.status)
    stage.ledger.close()


def test_orphans_are_listed(ledgers: Ledgers, run: Any) -> None:
    assert "orphan commits: none" in run(commands.orphans)
    assert json.loads(run(commands.orphans, output="json", all=True)) == []


def test_case_51_dead_letters_are_listed_with_their_reason(ledgers: Ledgers, run: Any) -> None:
    assert "dead letters: none" in run(commands.dead_letters)
    raise_a_doubt(ledgers, "payments")
    (doubt,) = ledgers.evidence.announce(10, 60.0)
    decision = Decision(
        doubt_id=doubt.doubt_id,
        version=doubt.version,
        verdict=Verdict.NOT_APPLIED,
        by="Ada",
        evidence={},
        dead_letter=True,
    )
    assert ledgers.evidence.decide(decision)
    assert "ValueError: no" in run(commands.dead_letters)
    (row,) = json.loads(run(commands.dead_letters, output="json"))
    assert (row["topic"], row["offset"], row["buried_by"]) == ("payments", 0, "Ada")


def test_status_shows_what_there_is_and_that_nobody_leads(
    ledgers: Ledgers, run: Any, kafka: str, topic: Any
) -> None:
    name = topic()
    (facts,) = commands.ClusterAdmin("kafka_default", {"bootstrap.servers": kafka}).topics([name]).values()
    raise_a_doubt(ledgers, name, facts.topic_id)
    found = json.loads(run(commands.status, output="json"))
    assert found["leader"]["address"] is None
    assert found["leader"]["epoch"] == 1
    assert [problem for problem in found["problems"] if problem.startswith("no leader")]
    assert [m["slot"] for m in found["members"]] == ["dag.task[0]"]
    assert [(p["topic"], p["lag"]) for p in found["partitions"]] == [(name, 0)]
    shown = run(commands.status)
    assert "leader      none" in shown
    assert "1 doubts" in shown
    assert name in shown


def test_status_goes_on_when_kafka_and_zookeeper_cannot_be_asked(
    ledgers: Ledgers, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_DEFAULT")
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_EXACTLY_ZOOKEEPER")
    problems = json.loads(run(commands.status, output="json"))["problems"]
    assert any("kafka_default" in problem for problem in problems)
    assert any("kafka_exactly_zookeeper" in problem for problem in problems)


def test_reconcile_knows_the_group_or_says_so(ledgers: Ledgers, run: Any) -> None:
    with pytest.raises(SystemExit, match="knows no consumer group 'nobody'"):
        run(commands.reconcile, group="nobody")


def test_case_01_reconcile_finds_nothing_wrong_with_a_group_that_committed_nothing(
    ledgers: Ledgers, run: Any, kafka: str, topic: Any
) -> None:
    name = topic()
    (facts,) = commands.ClusterAdmin("kafka_default", {"bootstrap.servers": kafka}).topics([name]).values()
    raise_a_doubt(ledgers, name, facts.topic_id)
    assert json.loads(run(commands.reconcile, group="g", output="json"))["deviations"] == []
    assert "0 deviations" in run(commands.reconcile, group="g")


def test_case_01_reconcile_names_each_committed_offset_without_an_outcome(
    ledgers: Ledgers, run: Any, kafka: str, topic: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody moved the group's offset past records that nobody has settled."""
    name, admin = topic(), commands.ClusterAdmin("kafka_default", {"bootstrap.servers": kafka})
    (facts,) = admin.topics([name]).values()
    group = unique("reconciled")
    raise_a_doubt(ledgers, name, facts.topic_id, group)
    assert all(admin.alter(group, {Partition(facts.topic_id, 0, name): 5}).values())
    with pytest.raises(SystemExit) as ended:
        run(commands.reconcile, group=group, output="json")
    assert ended.value.code == 1
    deviations = json.loads(capsys.readouterr().out)["deviations"]
    assert [(d["topic"], d["partition"], d["start"], d["stop"]) for d in deviations] == [
        (name, 0, 0, 1),  # an open doubt
        (name, 0, 1, 5),
    ]
    with pytest.raises(SystemExit):
        run(commands.reconcile, group=group)
    assert "2 deviations" in capsys.readouterr().out


def test_a_coordinator_leads_says_so_and_resigns_within_a_second(ledgers: Ledgers) -> None:
    said, stop = list[Any](), threading.Event()
    services = commands.hooks.service_settings()
    ended = list[float]()

    def contend() -> None:
        with commands.wiring.coordinator(services) as contender:
            commands.watch(contender, stop, lambda *words: said.append(words))
            ended.append(time.monotonic())
        ended.append(time.monotonic())

    running = threading.Thread(target=contend)
    running.start()
    try:
        wait_for(lambda: any(role == "leading" and words["epoch"] >= 1 for role, words in said))
        directory = commands.ZooKeeperDirectory(services.election)
        leader = directory.leader_address()
        assert leader == said[-1][1]["address"]
    finally:
        stop.set()
        running.join(20)
    assert ended[1] - ended[0] < 3.0
    wait_for(lambda: directory.leader_address() is None, 1.0)
    directory.close()
    assert len(said) < 10, "one line for each change"


def wait_for(condition: Callable[[], bool], at_most_s: float = 20.0) -> None:
    ends_at = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.02)


def test_connections_of_airflows_own_database_are_found(database: str, tmp_path: Path) -> None:
    """A command is no task: Airflow looks into its database only because the command says that it may."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    place = [*("--conn-host", parts["host"], "--conn-port", parts["port"], "--conn-schema", parts["dbname"])]
    login = ["--conn-login", parts["user"], "--conn-password", parts["password"]]
    airflow = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    airflow([sys.executable, "-m", "airflow", "db", "migrate"], env=environment)
    add = ["connections", "add", "kafka_exactly_ledger", "--conn-type", "postgres", *place, *login]
    airflow([sys.executable, "-m", "airflow", *map(str, add)], env=environment)
    code = (
        "import argparse; from airflow_kafka_exactly import commands; "
        "commands.migrate(argparse.Namespace(output='json', verbose=False))"
    )
    done = airflow([sys.executable, "-c", code], env=environment)
    assert json.loads(done.stdout)["before"] == 0


def test_a_coordinator_process_ends_with_sigterm_and_nobody_leads(ledgers: Ledgers) -> None:
    code = (
        "import argparse; from airflow_kafka_exactly import commands; "
        "commands.coordinator(argparse.Namespace(output='json', verbose=False, kafka_config_id=''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    said = list[Any]()
    assert process.stdout is not None
    lines = (json.loads(line) for line in process.stdout if line.startswith('{"at"'))
    try:
        said.append(next(line for line in lines if line["state"] == "leading"))
        process.terminate()
        asked_at = time.monotonic()
        directory = commands.ZooKeeperDirectory(commands.hooks.election_settings())
        wait_for(lambda: directory.leader_address() is None, 2.0)
        assert time.monotonic() - asked_at < 2.0, "it resigns at once, long before its session ends"
        directory.close()
        assert process.wait(10) == 0
        assert [line["state"] for line in lines][-1] == "stopped"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    assert said[0]["epoch"] >= 1


def test_a_group_is_moved_to_a_task_that_was_renamed(ledgers: Ledgers, run: Any) -> None:
    opening = OpenLife(
        group_id="sales.pay",
        cluster_id="c",
        slot="sales.pay",
        owner="run",
        kind=LifeKind.WORKER,
        process="h:1",
        lease_s=20,
        dag_id="sales",
        task_id="pay",
    )
    ledgers.member.close_life(ledgers.member.open_life(opening))
    asked = {"group": "sales.pay", "dag": "trade", "task": "pay"}
    row = json.loads(run(commands.groups_move, output="json", **asked))
    assert row == {"group_id": "sales.pay", "dag_id": "trade", "task_id": "pay", "before": ["sales", "pay"]}
    assert "trade" in run(commands.groups_move, **asked)
    with pytest.raises(SystemExit, match="not known"):
        run(commands.groups_move, group="nobody", dag="trade", task="pay")
