"""``make chaos MINUTES=10 SEED=1``: real Kafka, ZooKeeper, PostgreSQL and Airflow under faults that a seed draws.

Exit code 0 only when each record has exactly one effect, `reconcile` agrees, and nothing is left open.
"""

import argparse
import shutil
import sys
import time
from functools import partial
from pathlib import Path

from chaos.draining import drain, reconcile
from chaos.links import Network
from chaos.nemesis import Nemesis, plan
from chaos.observing import Observer
from chaos.producing import Producing
from chaos.report import Result, table
from chaos.stack import ChaosStack
from chaos.stage import Stage
from demo.airflow_api import AirflowApi
from demo.books import Books
from demo.payments import Effects, Topic
from demo.progress import DemoError, Progress, wait_for
from demo.scene import EVIDENCE_DAG, Scene
from localstack import ServiceError
from localstack import state as state_file
from localstack.airflow import PASSWORD, USER
from localstack.prerequisites import PrerequisiteMissing

MEMBERS_DAG, MEMBERS = "chaos_payments", 3
_DAGS = Path(__file__).resolve().parent / "chaos" / "dags"
_PARSE_SECONDS = 180.0
_JOIN_SECONDS = 180.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="docker/chaos.py", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for data and logs; emptied first")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults")
    given = parser.parse_args(arguments)
    state, progress = given.state.resolve(), Progress()
    _empty(state, progress)
    with Network() as network:
        stack = ChaosStack(state, dags=_DAGS, network=network, say=progress.say)
        network.serve()
        stack.postgres.remove()  # its data may lie outside of the folder that was emptied
        try:
            result = _run(stack, progress, given.minutes, given.seed)
        except (DemoError, ServiceError, PrerequisiteMissing) as error:
            print(f"\nchaos failed: {error}\nall logs are in {state}", file=sys.stderr, flush=True)
            return 1
        finally:
            _end(stack)
    code = _judge(result, state)
    if not code:
        stack.postgres.remove()
    return code


def _empty(state: Path, progress: Progress) -> None:
    """What an earlier run left: its services are ended, its data is deleted."""
    if not state.exists():
        return
    if any(state.iterdir()) and not (state / "zookeeper-1").is_dir():
        sys.exit(f"{state} is not empty and not of an earlier run: give another folder")
    progress.say(f"removing what an earlier run left in {state}")
    state_file.end_all(state)
    shutil.rmtree(state)


def _end(stack: ChaosStack) -> None:
    """At once, and whatever a killed scheduler or triggerer left behind."""
    stack.network.heal()
    for service in reversed(stack.services):
        service.thaw()
        service.kill()
    state_file.end_all(stack.state)


def _run(stack: ChaosStack, progress: Progress, minutes: float, seed: int) -> Result:
    with progress.phase("starting the services"):
        stack.up()
    scene = Scene(
        stack=stack,
        api=AirflowApi(stack.airflow.url, USER, PASSWORD),
        books=Books(stack.ledger),
        topic=Topic(stack.kafka.address),
        effects=Effects(stack.effects),
        progress=progress,
        dag=MEMBERS_DAG,
    )
    with progress.phase("starting members and producer"):
        producing = _begin(scene, stack, seed)
    began = time.monotonic()
    observer = Observer(stack, began)
    stage = Stage(scene, stack, observer, producing)
    nemesis = Nemesis(stage, began)
    observer.start()
    with progress.phase(f"faults for {minutes:g} minutes, seed {seed}"):
        nemesis.run(plan(seed, minutes * 60), minutes * 60)
    with progress.phase("draining"):
        reasons = _finish(stage, nemesis, minutes * 60)
    print(f"\n{table(nemesis, observer, stage)}\n", flush=True)
    return _result(stage, nemesis, reasons, minutes)


def _begin(scene: Scene, stack: ChaosStack, seed: int) -> Producing:
    scene.effects.create_table()
    scene.topic.create()
    for dag in (EVIDENCE_DAG, scene.dag):
        wait_for(
            f"DAG {dag}",
            partial(scene.api.dag_exists, dag),
            _PARSE_SECONDS,
            lambda: "\n".join(scene.api.import_errors()) or "the DAG processor has not read it",
        )
        scene.api.unpause(dag)
    producing = Producing(scene.topic, stack.kafka.address, seed)
    producing.start()
    wait_for(
        f"{MEMBERS} members with effects",
        lambda: len(scene.books.lives()) >= MEMBERS and scene.effects.total() > 0,
        _JOIN_SECONDS,
        scene.describe_members,
    )
    return producing


def _finish(stage: Stage, nemesis: Nemesis, faults_seconds: float) -> list[str]:
    """Why the run has failed; empty when everything is settled and the ledger agrees with Kafka."""
    nemesis.heal_all()
    reasons = [f"producer: {trouble}"] if (trouble := stage.producing.stop()) else []
    pending = drain(stage, nemesis, faults_seconds)
    stage.observer.stop()
    if pending:
        return [*reasons, f"still pending: {'; '.join(pending)}"]
    if objection := reconcile(stage):
        reasons.append(f"reconcile: {objection}")
    return reasons


def _result(stage: Stage, nemesis: Nemesis, reasons: list[str], minutes: float) -> Result:
    """Every offset of the log is a record: the producer is idempotent and uses no transactions."""
    records = {(number, offset) for number, end in stage.scene.topic.ends().items() for offset in range(end)}
    lost = stage.producing.stored - records
    return Result(
        minutes=minutes,
        records=len(records),
        unconfirmed=len(records - stage.producing.stored),
        count=Effects(stage.stack.effects).compare(records),  # over a connection that no fault has met
        unresolved=sum(stage.scene.books.unclosed_doubts().values()) + stage.scene.books.open_orphans(),
        faults=len(nemesis.faults),
        reasons=[*reasons, *([f"Kafka lost {len(lost)} records that it had confirmed"] if lost else [])],
    )


def _judge(result: Result, state: Path) -> int:
    failures = result.failures()
    for failure in failures:
        print(f"wrong: {failure}", file=sys.stderr)
    if failures:
        print(f"all logs are in {state}", file=sys.stderr, flush=True)
    print(result.last_line(), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
