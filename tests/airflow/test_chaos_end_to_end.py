"""`make chaos`, short and with a fixed seed: everything that a longer run does, in a state folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1_300)]

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 1_200
_LAST_LINE = re.compile(
    r"chaos: minutes=2 records=(?P<records>\d+) effects=(?P<effects>\d+) missing=0 repeated=0 faults=(?P<faults>\d+) unresolved=0"
)


def test_case_1_each_record_has_one_effect_after_two_minutes_of_drawn_faults(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docker" / "chaos.py"), "--minutes", "2", "--seed", "1"]
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "chaos")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "docker")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-4_000:]
    found = _LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found is not None, done.stdout[-2_000:]
    assert found["records"] == found["effects"] != "0"
    assert int(found["faults"]) >= 10
