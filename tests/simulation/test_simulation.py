"""A bounded part of `make simulate` and `make mutants`, and the simulator's own promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation import mutants, stories
from simulation.faults import Fate, Script
from simulation.mutants import hunt_elsewhere
from simulation.plan import draw
from simulation.planted_ledger import PLANTED
from simulation.run import Run, run_seed

from airflow_kafka_exactly.runtime.running import Runner

ROOT = Path(__file__).resolve().parents[2]
SEEDS, AT_ONCE = 150, 25
EASY = (
    "no_incarnation_check",
    "frontier_passes_open_claims",
    "arbiter_blind_to_claims",
    "started_not_written",
    "commit_before_settled",
    "vote_before_the_ledger_is_loaded",
    "exception_taken_as_proof",
    "backlog_is_buried_in_an_outage",
)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, AT_ONCE))
def test_s1_to_s8_and_l1_hold_in_drawn_runs(first: int) -> None:
    results = [run_seed(seed) for seed in range(first, first + AT_ONCE)]
    assert [f"{r.seed}: {r.violation}" for r in results if r.violation] == []
    assert all(r.effects for r in results)


@pytest.mark.parametrize("first", range(1, 51, AT_ONCE))
def test_s5_any_vote_is_safe(first: int) -> None:
    """The leader's votes are drawn from a hat."""
    results = [run_seed(seed, "oracle") for seed in range(first, first + AT_ONCE)]
    assert [f"{r.seed}: {r.violation}" for r in results if r.violation] == []


@pytest.mark.parametrize(
    "fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.FREEZE_BEFORE, Fate.ANSWER_LOST, Fate.LATE]
)
def test_case_41_a_stop_at_every_step_of_a_batchs_way(fate: Fate) -> None:
    both = [Script(name, 0, Fate.NONE) for name in ("s0", "s1")]
    assert [Run(draw(1, "enumerate"), script).go().violation for script in both] == ["", ""]
    counted = max(both, key=lambda script: script.calls)  # of two members, the one that did the work
    assert counted.calls > 20
    found = []
    for at in range(1, counted.calls + 1):
        script = Script(counted.name, at, fate)
        result = Run(draw(1, "enumerate"), script).go()
        assert script.hit, "the same seed makes the same calls up to its fault"
        if result.violation:
            found.append(f"call {at}, {script.hit}: {result.violation}")
    assert found == []


def test_the_same_seed_makes_the_same_run_under_any_hash_seed() -> None:
    command = "from simulation.run import run_seed; print([(run_seed(s).digest, run_seed(s).steps) for s in (3, 5, 8)])"
    told = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4711")
    }
    assert len(told) == 1


@pytest.mark.parametrize("name", EASY)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{ROOT}")
    caught = hunt_elsewhere(name, 150)
    assert caught.seed, f"{name} survived {caught.steps} steps"


def test_a_planted_fault_that_no_longer_fits_the_code_catches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        PLANTED, "unfit", lambda: monkeypatch.setattr(Runner, "_mark", lambda *, renamed: renamed)
    )
    monkeypatch.setattr(mutants, "fails_anyway", lambda _: False)
    caught = mutants.hunt("unfit", [1])
    assert not caught.seed
    assert "TypeError" in caught.text


@pytest.mark.parametrize("name", stories.STORIES)
def test_stories_are_told_as_they_were_checked_in(name: str) -> None:
    """`python -m simulation.stories --write` tells them anew; read the difference before you check it in."""
    assert stories.tell(name) == (stories.FOLDER / f"{name}.txt").read_text()
