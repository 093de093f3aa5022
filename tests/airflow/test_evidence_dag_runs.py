"""The evidence-check DAG, run by Airflow itself (`dag.test()`, with a metadata database in SQLite)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput
from doubts import NO_CHECK, JustDoubts, vote, window

from airflow_kafka_exactly import evidence_tasks
from airflow_kafka_exactly.evidence_tasks import AskPerson
from airflow_kafka_exactly.protocol.claims import DoubtState

pytestmark = pytest.mark.filterwarnings("default")  # Airflow's own
DAG_FILE = "from airflow_kafka_exactly import evidence_check_dag\ndag = evidence_check_dag(schedule=None)\n"


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils import db

    folder = Path(os.environ["AIRFLOW_HOME"]) / "dags"
    folder.mkdir(exist_ok=True)
    (folder / "evidence.py").write_text(DAG_FILE)
    db.initdb()
    bag = DagBag(folder)
    assert bag.import_errors == {}
    return bag.dags["kafka_exactly_evidence_check"]


@pytest.fixture
def run(dag: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def on(ledger: JustDoubts) -> dict[str, str]:
        @contextmanager
        def opened() -> Iterator[JustDoubts]:
            yield ledger

        monkeypatch.setattr(evidence_tasks, "evidence_ledger", opened)
        done = dag.test()
        states = {ti.task_id: str(ti.state) for ti in done.get_task_instances()}
        return {**states, "run": str(done.state)}

    return on


def test_settle_runs_when_nobody_has_to_be_asked(run: Any) -> None:
    ledger = JustDoubts(vote())
    assert run(ledger) == {
        "gather": "success",
        "weigh": "success",
        "check": "success",
        "ask": "skipped",
        "settle": "success",
        "run": "success",
    }
    assert ledger.doubts[7].state is DoubtState.RELEASED


def test_each_undecidable_case_is_asked_and_settled(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, asked = AskPerson.execute, list[str]()

    def answer_at_once(self: AskPerson, context: Any) -> Any:
        with pytest.raises(TaskAwaitingInput):
            ask(self, context)
        asked.append(self.subject)
        answer = "It happened" if "offset 1 " in self.subject else "Dead letter"
        return self.execute_complete(
            context,
            {
                "chosen_options": [answer],
                "params_input": {"note": None},
                "responded_at": datetime.now(UTC),
                "responded_by_user": {"id": "1", "name": "Ada"},
            },
        )

    monkeypatch.setattr(AskPerson, "execute", answer_at_once)
    ledger = JustDoubts(
        vote(doubt_id=3),
        *[window(doubt_id=n, incarnation=n, range=offsets(n), check=NO_CHECK) for n in (1, 2)],
    )
    states = run(ledger)
    assert states["run"] == "success"
    assert sorted(asked) == [f"Did the effect happen? payments[3] offset {n} (g)" for n in (1, 2)]
    by_person = {d.doubt_id: (d.verdict.value, d.dead_letter) for d in ledger.decisions if d.by == "Ada"}
    assert by_person == {1: ("applied", False), 2: ("unknown", True)}


def offsets(n: int) -> Any:
    from airflow_kafka_exactly.protocol.record import OffsetRange

    return OffsetRange(n, n + 1)
