"""``make demo``: real Kafka, ZooKeeper, PostgreSQL and Airflow; 20,000 payments, four faults; each payment made exactly once.

Exit code 0 only when each record has exactly one effect, nothing is left open, and every fault has hit something.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from demo import faults
from demo.airflow_api import AirflowApi
from demo.books import Books
from demo.outcome import Outcome, outcome, table
from demo.payments import GROUP, PARTITIONS, Effects, Topic
from demo.progress import DemoError, Progress, wait_for
from demo.scene import EVIDENCE_DAG, PAYMENTS_DAG, Scene
from demo.settling import await_settled
from localstack import AirflowStack, ServiceError
from localstack import state as state_file
from localstack.airflow import PASSWORD, USER
from localstack.prerequisites import PrerequisiteMissing

RECORDS = 20_000
_DAGS = Path(__file__).resolve().parents[1] / "dags"
_PARSE_SECONDS = 60.0
_LOG_LINES = 15


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="docker/demo.py", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for data and logs; emptied first")
    state = parser.parse_args(arguments).state.resolve()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    progress = Progress()
    _empty(state, progress)
    stack = AirflowStack(state, dags=_DAGS, keep=keep, say=progress.say)
    try:
        end = _story(stack, progress)
    except (DemoError, ServiceError, PrerequisiteMissing) as error:
        print(
            f"\nthe demo failed: {error}\n{_last_lines(state)}\nall logs are in {state}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    finally:
        if keep and stack.airflow.api_server.running:
            print(
                f"\nAirflow's pages: {stack.airflow.url} (user {USER}, password {PASSWORD}); `make down` ends everything.\n"
                f"Commands: . {stack.airflow.environment_file} && airflow kafka-exactly status"
            )
        if not keep:
            _end(stack)
    return _judge(end, progress, state)


def _empty(state: Path, progress: Progress) -> None:
    """What an earlier demo left: its services are ended, its data is deleted."""
    if not state.exists():
        return
    if any(state.iterdir()) and not (state / "postgres").is_dir():
        sys.exit(f"{state} is not empty and not of an earlier demo: give another folder")
    progress.say(f"removing what an earlier demo left in {state}")
    state_file.end_all(state)
    shutil.rmtree(state)


def _end(stack: AirflowStack) -> None:
    """Airflow's polite end takes most of a minute, and nobody needs it here."""
    for service in reversed(stack.airflow.services):
        service.kill()
    stack.down()


def _story(stack: AirflowStack, progress: Progress) -> Outcome:
    with progress.phase("starting the services"):
        stack.up()
    scene = Scene(
        stack=stack,
        api=AirflowApi(stack.airflow.url, USER, PASSWORD),
        books=Books(stack.ledger),
        topic=Topic(stack.kafka.address),
        effects=Effects(stack.effects),
        progress=progress,
    )
    with progress.phase("producing"):
        produced = _produce(scene)
        _unpause(scene)
    with progress.phase("faults"):
        hit = _faults(scene)
    with progress.phase("settling"):
        await_settled(scene)
        reconciled = (
            stack.airflow.run("kafka-exactly", "reconcile", "--group", GROUP).strip().splitlines()[-1]
        )
        scene.say(f"airflow kafka-exactly reconcile: {reconciled}")
    end = outcome(scene, produced, hit)
    print(f"\n{table(scene, end)}\n", flush=True)
    return end


def _produce(scene: Scene) -> set[tuple[int, int]]:
    scene.effects.create_table()
    scene.topic.create()
    produced = scene.topic.produce(RECORDS)
    scene.say(f"{len(produced)} payment records are in {PARTITIONS} partitions")
    return produced


def _unpause(scene: Scene) -> None:
    for dag in (EVIDENCE_DAG, PAYMENTS_DAG):
        wait_for(
            f"DAG {dag}",
            lambda dag=dag: scene.api.dag_exists(dag),
            _PARSE_SECONDS,
            lambda: "\n".join(scene.api.import_errors()) or "the DAG processor has not read it",
        )
        scene.api.unpause(dag)
        scene.say(f"DAG {dag} is unpaused")


def _faults(scene: Scene) -> dict[str, bool]:
    killed = faults.kill_worker(scene)
    frozen = faults.freeze_worker(scene, killed)
    epoch = faults.kill_leader(scene)
    refused = faults.refuse_commit(scene)
    return {
        "kill a worker": killed.pid > 0,
        "freeze a worker": frozen.pid > 0,
        "kill the leader": epoch > 0,
        "refuse an offset commit": bool(refused),
    }


def _judge(end: Outcome, progress: Progress, state: Path) -> int:
    failures = end.failures()
    for failure in failures:
        print(f"wrong: {failure}", file=sys.stderr)
    if failures:
        print(f"all logs are in {state}", file=sys.stderr, flush=True)
    print(end.last_line(progress.elapsed_seconds), flush=True)
    return 1 if failures else 0


def _last_lines(state: Path) -> str:
    """Of the logs that were written last: where the trouble usually is."""
    logs = sorted(
        [*state.glob("*.log"), *state.glob("airflow/logs/dag_id=*/**/*.log")],
        key=lambda log: log.stat().st_mtime,
    )
    shown = []
    for log in logs[-4:]:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        shown.append("\n".join([f"-- last lines of {log}", *(line[:400] for line in lines)]))
    return "\n".join(shown)


if __name__ == "__main__":
    sys.exit(main())
