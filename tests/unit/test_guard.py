"""The sibling that ends a worker when its trust window ends during an effect (S1 c), with real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_kafka_exactly.adapters.guard import ProcessGuard
from airflow_kafka_exactly.adapters.guard.watch import relatives

WORKER = """
import sys, time
from airflow_kafka_exactly.adapters.guard import BootClock, ProcessGuard
guard, now = ProcessGuard(), BootClock().now()
guard.trusted_until(now + {window})
{effect}
print("survived", flush=True)
guard.close()
"""


def run_worker(window: float, effect: str) -> subprocess.CompletedProcess[str]:
    script = WORKER.format(window=window, effect=effect)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_s1_an_effect_past_the_trust_window_ends_the_worker() -> None:
    worker = run_worker(0.3, "guard.begin()\ntime.sleep(60)")
    assert worker.returncode == -signal.SIGKILL
    assert "the trust window ended" in worker.stderr
    assert "survived" not in worker.stdout


def test_s1_also_when_the_interpreter_never_lets_go_of_its_lock() -> None:
    holding = "import ctypes\nguard.begin()\nctypes.PyDLL(None).sleep(60)"  # PyDLL keeps the lock
    assert run_worker(0.3, holding).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "effect",
    [
        "time.sleep(0.6)",  # no effect under way
        "guard.begin(); guard.end(); time.sleep(0.6)",
        "guard.begin(); guard.trusted_until(now + 600); time.sleep(0.6)",  # renewed in time
    ],
)
def test_a_worker_that_keeps_to_its_window_lives(effect: str) -> None:
    worker = run_worker(0.4, effect)
    assert (worker.returncode, worker.stdout.strip()) == (0, "survived")


# -- what the function has started

STARTS = """
import multiprocessing, os, subprocess, sys, time
from airflow_kafka_exactly.adapters.guard import ProcessGuard
from airflow_kafka_exactly.adapters.guard.watch import relatives

BEGUN = sys.argv[1]
SHELL = ["sh", "-c", f"touch {BEGUN}; sleep 20; echo effect"]

def started(start):
    guard = ProcessGuard()
    guard.trusted_until(float("inf"))
    guard.begin()
    child = start()
    while not os.path.exists(BEGUN):
        time.sleep(0.01)
    guard.trusted_until(0.0)
    time.sleep(60)

def forked(method):
    child = multiprocessing.get_context(method).Process(target=subprocess.call, args=(SHELL,))
    child.start()
    return child

if __name__ == "__main__":
    started(lambda: %s)
"""
SUBPROCESS = "subprocess.Popen(SHELL)"
NESTED = """subprocess.Popen(["sh", "-c", f"(setsid sh -c 'touch {BEGUN}; sleep 20; echo effect'; true) & wait"])"""
LEFT_ALONE = """subprocess.run(["sh", "-c", f"(touch {BEGUN}; sleep 20; echo effect) &"])"""


def run_until_nobody_is_left(tmp_path: Path, start: str, **how: object) -> subprocess.CompletedProcess[str]:
    """`run` comes back when the last process that holds the worker's output has ended, and not before."""
    script = tmp_path / "worker.py"
    script.write_text(STARTS % start)
    command = [sys.executable, str(script), str(tmp_path / "begun")]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, timeout=60, check=False, **how
    )


@pytest.mark.parametrize(
    "start",
    [
        SUBPROCESS,
        "subprocess.Popen(SHELL, start_new_session=True)",
        "forked('fork')",
        "forked('spawn')",
        "forked('forkserver')",
        NESTED,
    ],
)
@pytest.mark.parametrize("leads", [True, False], ids=["a group of its own", "in another's group"])
def test_s1_what_the_function_has_started_ends_with_the_worker(
    tmp_path: Path, start: str, leads: bool
) -> None:
    worker = run_until_nobody_is_left(tmp_path, start, process_group=0 if leads else None)
    assert worker.returncode == -signal.SIGKILL
    assert "effect" not in worker.stdout


def test_s1_an_orphan_in_the_task_s_own_group_ends_with_it(tmp_path: Path) -> None:
    worker = run_until_nobody_is_left(tmp_path, LEFT_ALONE, process_group=0)
    assert (worker.returncode, worker.stdout) == (-signal.SIGKILL, "")


def test_the_shell_that_dag_test_was_started_from_survives(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(STARTS % SUBPROCESS)
    shell = subprocess.run(
        ["sh", "-c", f"{sys.executable} {script} {tmp_path / 'begun'}; echo the shell saw $?"],
        capture_output=True, text=True, timeout=60, check=False, process_group=0,
    )  # fmt: skip
    assert (shell.returncode, shell.stdout.strip()) == (0, f"the shell saw {128 + signal.SIGKILL}")


@pytest.mark.parametrize(("group", "found"), [(None, {30}), (20, {30, 40})])
def test_only_descendants_and_the_group_that_the_worker_leads(group: int | None, found: set[int]) -> None:
    machine = [(1, 0, 0), (2, 0, 0), (9, 2, 0), (10, 1, 10), (30, 20, 30), (40, 1, 20), (50, 10, 10)]
    assert {pid for pid, _ in relatives(machine, {20}, group)} == found


def test_no_effect_begins_while_the_guard_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    guard = ProcessGuard()
    try:
        guard.trusted_until(float("inf"))
        first = guard._sibling
        os.kill(first.pid, signal.SIGKILL)
        first.wait(30)
        guard.begin()
        assert guard._sibling.poll() is None
        assert guard._sibling.pid != first.pid
        assert "has ended" in caplog.text
    finally:
        guard.close()


def test_s1_the_guard_that_took_over_ends_the_worker_too() -> None:
    lost = "guard._sibling.kill(); guard._sibling.wait(30); guard.begin(); time.sleep(60)"
    assert run_worker(0.3, lost).returncode == -signal.SIGKILL
