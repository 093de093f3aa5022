"""A record that nobody can decide reaches a person through all of Airflow's processes, and their answer the ledger."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_api import Api, wait_for
from localstack import AirflowStack
from localstack.airflow import USER

from airflow_kafka_exactly.adapters.postgres import Ledgers, open_ledger
from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    ClaimPart,
    ClaimRequest,
    Life,
    LifeKind,
    Opening,
    OpenLife,
    Segment,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.settings import LedgerSettings

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(420)]
DAG = "kafka_exactly_evidence_check"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledgers(airflow_stack: AirflowStack) -> Iterator[Ledgers]:
    opened = open_ledger(LedgerSettings(connection="test", conninfo=airflow_stack.ledger))
    yield opened
    opened.close()


class People(Api):
    """What people are asked by the evidence-check DAG."""

    def questions(self) -> list[Any]:
        """Open ones of the evidence-check DAG."""
        found = self.found(f"/api/v2/dags/{DAG}/dagRuns/~/hitlDetails?response_received=false")
        return list(found["hitl_details"]) if found else []

    def answer(self, question: Any, option: str, note: str) -> None:
        ti = question["task_instance"]
        place = f"/api/v2/dags/{DAG}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}/{ti['map_index']}/hitlDetails"
        self.call("PATCH", place, {"chosen_options": [option], "params_input": {"note": note}})


def raise_undecidable(ledgers: Ledgers, offset: int) -> None:
    """A member's function raised for the record at this offset, and it has no check."""
    place = Partition("topic-of-people", 0, "people")
    life = ledgers.member.open_life(
        OpenLife(
            group_id="people",
            cluster_id="c",
            slot="dag.task[0]",
            owner="dag/run/task/0",
            kind=LifeKind.WORKER,
            process="h:1",
            lease_s=20,
            check=CheckReference(effect_timeout_s=0),
        )
    )
    ledgers.member.open_partitions(life, "c", [Opening(place, offset, False)])
    raw = RawRecord(offset, b"order-17", b"secret", (), 0)
    batch = PartitionBatch(place, OffsetRange(offset, offset + 1), (raw,))
    (claim,) = claimed(ledgers, life, batch)
    ledgers.member.raise_doubt(life, claim, [raw], offset + 1, "TimeoutError: no answer")


def claimed(ledgers: Ledgers, life: Life, batch: PartitionBatch) -> Any:
    """With the current leader's epoch."""
    epoch = wait_for(lambda: ledgers.report.status()["epoch"], 60)
    part = ClaimPart(batch, (Segment(batch.range, False),))
    return ledgers.member.claim(ClaimRequest(life, epoch, 1 + batch.range.start, (part,))).granted


def doubts_of_people(ledgers: Ledgers) -> dict[int, Any]:
    return {row["start"]: row for row in ledgers.report.doubts("people", False)}


def test_a_person_is_asked_once_and_their_answer_settles_the_record(
    airflow_stack: AirflowStack, ledgers: Ledgers
) -> None:
    (airflow_stack.dags / "evidence_check.py").write_text((ROOT / "dags" / "evidence_check.py").read_text())
    raise_undecidable(ledgers, 0)
    api = People(airflow_stack.airflow.url)
    (question,) = wait_for(api.questions, 240)
    assert question["subject"] == "Did the effect happen? people[0] offset 0 (people)"
    assert "TimeoutError: no answer" in question["body"]
    assert "order-17" in question["body"]
    assert "secret" not in json.dumps(question), "the value is shown to nobody"

    # The doubt is not announced a second time while a person is asked.
    raise_undecidable(ledgers, 1)
    assert len(wait_for(lambda: api.questions()[1:] and api.questions(), 120)) == 2

    api.answer(question, "It happened", "I called the bank")
    row = wait_for(lambda: (r := doubts_of_people(ledgers)[0])["outcome"] and r, 120)
    assert (row["outcome"], row["decided_by"]) == ("discarded", USER)
    assert row["evidence"]["note"] == "I called the bank"

    (other,) = [q for q in api.questions() if "offset 1 " in q["subject"]]
    api.answer(other, "It did not happen: run it again", "")
    wait_for(lambda: doubts_of_people(ledgers)[1]["state"] == "released", 120)
    runs = api.call("GET", f"/api/v2/dags/{DAG}/dagRuns")["dag_runs"]
    asked_twice = [q["subject"] for q in api.questions()]
    assert asked_twice == []
    assert len(runs) == 2, "one run for each announcement"
