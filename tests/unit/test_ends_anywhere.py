"""A task that is ended between any two lines of what runs its records: none is lost, none has its effect twice.

Airflow's time-out is a signal, so its exception may come anywhere. Each scene is run again and again, each time ended one line
later, until it is ended nowhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from outage_stage import Scene

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import DoubtState

RUNTIME = ("runtime/running.py", "runtime/trying.py", "runtime/function.py")
FILES = (*RUNTIME, "protocol/breaker.py", "protocol/summary.py")
LINES_AT_MOST = 3000


class TimedOut(BaseException):
    pass


class EndAtLine:
    """Raises `TimedOut` before the `number`th line that is run of `FILES`; `where` it did."""

    def __init__(self, number: int) -> None:
        self._left, self.where = number, ""

    def __call__(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.endswith(FILES) else None

    def _line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                raise TimedOut
        return self._line


def ended_at(number: int, scene: Scene, count: int) -> str:
    """Run the scene; where it was ended, or "" when it came to its own end before."""
    end, before = EndAtLine(number), sys.gettrace()
    sys.settrace(end)
    try:
        scene.run(count)
    except TimedOut:
        pass
    finally:
        sys.settrace(before)
    return end.where


def faults(scene: Scene, count: int) -> list[str]:
    """What the ledger says of each record, held against what has happened in the target."""
    place = scene.place()
    if place is None:
        return []
    known = {o for d in place.doubts if d.state is not DoubtState.CLOSED for o in d.records}
    dead, found = set(scene.dead()), []
    for offset in range(count):
        effects = scene.target.effects[offset]
        claims = [c for c in place.claims if not c.settled and c.start <= offset < c.stop]
        begun = max((c.started for c in claims), default=place.frontier)
        done = max((c.applied for c in claims), default=place.frontier)
        if effects > 1:
            found.append(f"{offset} had its effect twice")
        if effects and offset not in known and offset >= begun:
            found.append(f"{offset} had its effect and will be run again")
        if not effects and offset not in known | dead and offset < done:
            found.append(f"{offset} is lost")
    return found


def poisoned(offsets: set[int], **function: Any) -> Scene:
    scene = Scene(**function)
    scene.target.poison = frozenset(offsets)
    return scene


SCENES: dict[str, tuple[Callable[[], Scene], int]] = {
    "healthy records": (Scene, 3),
    "records that are put aside": (lambda: poisoned({0, 1}), 4),
    "a check says no": (lambda: poisoned({0}, vouches=False, check=lambda _: False), 3),
    "exceptions that prove nothing": (lambda: poisoned({1}, vouches=False), 3),
    "a batch": (lambda: Scene(unit=True), 2),
}


@pytest.mark.parametrize("name", SCENES)
def test_s1_l2_a_run_that_is_ended_at_any_line_repeats_and_loses_nothing(name: str) -> None:
    make, count = SCENES[name]
    found: dict[str, list[str]] = {}
    for number in range(1, LINES_AT_MOST):
        scene = make()
        where = ended_at(number, scene, count)
        if not where:
            break
        if bad := faults(scene, count):
            found[where] = bad
        if scene.guard.armed:
            found.setdefault(where, []).append("the guard would end an idle worker")
    assert not where, "every line was reached"
    assert number > 50, "the scene runs what it is to end"
    assert found == {}


@pytest.mark.parametrize("written", [False, True])
def test_l2_a_record_whose_burial_gets_no_answer_is_not_lost(written: bool) -> None:
    """The ledger goes away while record 0 is buried, after 1 was applied: 0 is a dead letter, or a doubt."""
    scene = poisoned({0})
    really = scene.stage.member.bury

    def bury(*given: Any) -> Any:
        if written:
            really(*given)
        raise Unavailable("PostgreSQL", "kafka_exactly", "gone")

    scene.runner._of.ledger.bury = bury  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        scene.run(3)
    assert faults(scene, 3) == []
    assert sorted([*scene.dead(), *scene.questions()]) == [0]
