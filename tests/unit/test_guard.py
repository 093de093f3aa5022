"""The sibling that ends a worker when its trust window ends during an effect (S1 c), with real processes."""

import signal
import subprocess
import sys

import pytest

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
