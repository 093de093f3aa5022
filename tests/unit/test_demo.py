"""The demo's judgement: it may only call a run good that proves something."""

from dataclasses import replace
from pathlib import Path

import pytest
from demo.outcome import Outcome
from demo.payments import EffectCount
from demo.progress import DemoError, wait_for
from demo.votes import count_votes

GOOD = Outcome(
    produced=3,
    count=EffectCount(effects=3, missing=[], repeated=[]),
    doubts_open=0,
    doubts_raised=1,
    orphans_open=0,
    orphans_raised=1,
    faults={"kill a worker": True},
)


def test_a_good_run_has_no_failures() -> None:
    assert GOOD.failures() == []


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, count=EffectCount(effects=2, missing=[(0, 2)], repeated=[])),
        replace(GOOD, count=EffectCount(effects=4, missing=[], repeated=[(0, 2)])),
        # One lost and one repeated: the sum alone would hide it.
        replace(GOOD, count=EffectCount(effects=3, missing=[(0, 2)], repeated=[(0, 1)])),
        replace(GOOD, count=EffectCount(effects=4, missing=[], repeated=[])),
        replace(GOOD, doubts_open=1),
        replace(GOOD, doubts_raised=0),
        replace(GOOD, orphans_open=1),
        replace(GOOD, orphans_raised=0),
        replace(GOOD, faults={"kill a worker": False}),
    ],
)
def test_everything_else_is_a_failure(bad: Outcome) -> None:
    assert bad.failures()


def test_the_last_line_is_for_machines() -> None:
    words = GOOD.last_line(12.3).removeprefix("demo: ").split()
    assert {name: int(value) for name, value in (word.split("=") for word in words)} == {
        "records": 3,
        "effects": 3,
        "missing": 0,
        "repeated": 0,
        "doubts_open": 0,
        "orphans_open": 0,
        "doubts": 1,
        "orphans": 1,
        "faults": 1,
        "seconds": 12,
    }


def test_votes_are_the_last_count_of_each_epoch(tmp_path: Path) -> None:
    line = "{} epoch {}: votes of group 'payments' so far: fresh={} settled={} doubtful={} [upkeep]\n"
    (tmp_path / "coordinator.log").write_text(line.format("t", 1, 10, 0, 0) + line.format("t", 1, 20, 1, 2))
    (tmp_path / "triggerer-1.log").write_text(line.format("t", 2, 5, 0, 1))
    assert count_votes(tmp_path) == {"fresh": 25, "settled": 1, "doubtful": 3}


def test_a_wait_in_vain_says_what_is_pending() -> None:
    with pytest.raises(DemoError, match=r"in vain for a miracle\. Still pending: the miracle"):
        wait_for("a miracle", lambda: None, 0.0, lambda: "the miracle")
