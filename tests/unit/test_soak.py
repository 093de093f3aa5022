"""`make soak`: what it writes, where it goes on, and that nothing of it is left when it is told to stop."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from localstack.process import descendants

SOAK = Path(__file__).resolve().parents[2] / "docker" / "soak.py"


def soak(state: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(SOAK),
        "--state",
        str(state),
        "--parts",
        "simulate",
        "--seeds",
        "2",
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def first_line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    line = running.stdout.readline()
    assert "simulate: seeds=2" in line
    assert "exit=0" in line
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_soak_that_is_told_to_stop_ends_what_it_has_started(tmp_path: Path, number: signal.Signals) -> None:
    running = soak(tmp_path)
    first_line(running)
    while not (children := descendants(running.pid)):
        time.sleep(0.01)
    running.send_signal(number)
    rest, _ = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_soak_goes_on_with_seeds_that_were_not_run(tmp_path: Path) -> None:
    for _ in range(2):
        running = soak(tmp_path)
        first_line(running)
        running.terminate()
        running.communicate(timeout=60)
    report = (tmp_path / "report.txt").read_text().splitlines()
    ran = [int(found) for line in report for found in re.findall(r"first=(\d+) ", line)]
    assert ran == list(range(ran[0], ran[0] + 2 * len(report), 2))
    added = subprocess.run(
        [sys.executable, str(SOAK), "--state", str(tmp_path), "--totals"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"seeds={2 * len(report)} " in added
    assert f"times={len(report)} failed=0" in added


def test_a_soak_ends_by_itself_when_its_time_is_over(tmp_path: Path) -> None:
    running = soak(tmp_path, "--minutes", "0.01")
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert not list(tmp_path.glob("*.log")), "what was cut off counts for nothing"
