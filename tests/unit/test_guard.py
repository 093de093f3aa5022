"""The sibling that ends a worker when its trust window ends during an effect (S1 c), with real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_kafka_exactly.adapters.guard import ProcessGuard, process
from airflow_kafka_exactly.adapters.guard.watch import relatives
from airflow_kafka_exactly.errors import Unavailable

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


def test_no_effect_begins_while_the_guard_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    guard = ProcessGuard()
    first = guard._sibling
    try:
        guard.trusted_until(float("inf"))
        first.send_signal(signal.SIGSTOP)
        await_silence(guard)
        guard.begin()
        assert first.returncode == -signal.SIGKILL
        assert guard._sibling.poll() is None
        assert "has not looked for" in caplog.text
    finally:
        guard.close()


def test_a_guard_that_was_away_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was asleep, and the worker was the first to wake up."""
    guard = ProcessGuard()
    first = guard._sibling
    try:
        first.send_signal(signal.SIGSTOP)
        await_silence(guard)
        monkeypatch.setattr(process, "REPLACE_AFTER_S", 60.0)
        threading.Timer(0.1, first.send_signal, [signal.SIGCONT]).start()
        guard.begin()
        assert guard._sibling is first
        assert guard._silent_s() < process.SILENT_S
    finally:
        guard.close()


def await_silence(guard: ProcessGuard) -> None:
    while guard._silent_s() <= process.SILENT_S:
        time.sleep(0.01)


def test_nothing_is_under_way_while_a_guard_is_waited_for() -> None:
    """The trust window may be over then, and the guard's first look would end a worker that does nothing."""
    late = (
        "from airflow_kafka_exactly.adapters.guard import process; import os, signal, threading\n"
        "guard._sibling.send_signal(signal.SIGSTOP)\n"
        "while guard._silent_s() <= process.SILENT_S: time.sleep(0.01)\n"
        "really = guard._looks_within\n"
        "def looks(seconds):\n"
        "    guard._sibling.send_signal(signal.SIGCONT); said = really(60); time.sleep(0.2); guard.trusted_until(now + 600)\n"
        "    return said\n"
        "guard._looks_within = looks\n"
        "guard.begin()"
    )
    worker = run_worker(0.1, late)
    assert (worker.returncode, worker.stdout.strip()) == (0, "survived")


def test_a_stopped_guard_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    guard = ProcessGuard()
    guard._sibling.send_signal(signal.SIGSTOP)
    guard.close()
    guard.close()
    assert guard._sibling.returncode == -signal.SIGKILL
    assert not caplog.records


def test_a_guard_that_cannot_be_ended_stops_no_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard = ProcessGuard()
    sibling, really = guard._sibling, guard._sibling.wait

    def never(_: float) -> int:
        raise subprocess.TimeoutExpired("watch.py", 5.0)

    monkeypatch.setattr(sibling, "wait", never)
    guard.close()
    assert "does not end" in caplog.text
    assert really(30) == -signal.SIGKILL


def test_no_effect_begins_when_no_guard_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = ProcessGuard()
    try:
        monkeypatch.setattr(guard, "_silent_s", lambda: 60.0)
        monkeypatch.setattr(process, "REPLACE_AFTER_S", 0.02)
        monkeypatch.setattr(process, "START_S", 0.02)
        with pytest.raises(Unavailable, match="does not run"):
            guard.begin()
        assert not guard._page[process.BUSY_AT]
    finally:
        guard.close()


def test_s1_the_guard_that_took_over_ends_the_worker_too() -> None:
    lost = "guard._sibling.kill(); guard._sibling.wait(30); guard.begin(); time.sleep(60)"
    assert run_worker(0.3, lost).returncode == -signal.SIGKILL
