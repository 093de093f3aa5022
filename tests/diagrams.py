"""The diagrams of docs/protocol.md, drawn from the code: `PYTHONPATH=tests:. python -m diagrams --write`.

The leader's offices come from `Leader.step` itself, given each event in each office; the sequence from a transcript, which is
what the production code did in the simulator (`simulation.stories` compares the two).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from airflow_kafka_exactly.errors import NotLeading
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.leader import Leader, Office
from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "protocol.md"
BLOCK = re.compile(r"(<!-- drawn: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
LINE = re.compile(r"\s+\d+\.\d{3}  (\S+)\s+(.+)")
EVENTS: tuple[le.Event, ...] = (
    le.Elected(),
    le.EpochRaised(1),
    le.LoadedAll(1, ()),
    le.Deposed(),
)
WAY = EVENTS[:3]
"""Each of them leads from one office to the next."""


def leader_after(events: int) -> Leader:
    leader = Leader(FilterSettings(), LeaseSettings())
    for event in WAY[:events]:
        leader.step(event, 0.0)
    return leader


def moves() -> Iterator[tuple[Office, str, Office]]:
    """Where each event leads from each office; an event that is refused there leads nowhere."""
    for passed in range(len(WAY) + 1):
        for event in EVENTS:
            leader = leader_after(passed)
            before = leader.office
            try:
                commands = leader.step(event, 0.0)
            except (AssertionError, NotLeading):
                continue
            if leader.office is not before:
                does = ", ".join(type(command).__name__ for command in commands)
                yield before, type(event).__name__ + (f" / {does}" if does else ""), leader.office


def offices() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {Office.OUT.value}"]
    lines += [f"    {before.value} --> {after.value}: {how}" for before, how, after in moves()]
    return "\n".join(lines)


def late_commit() -> str:
    """Each line of the transcript as an arrow or a note. What an idle leader repeats is drawn once."""
    told = (ROOT / "tests" / "transcripts" / "late_commit.txt").read_text()
    drawn, actors = list[str](), dict[str, str]()

    def actor(name: str) -> str:
        return actors.setdefault(name, name.replace(".", "_"))

    for who, what in (match.groups() for match in map(LINE.fullmatch, told.splitlines()) if match):
        line = arrow(actor, who, what)
        if line not in drawn[-1:]:
            drawn.append(line)
    heads = [f"participant {ident} as {name}" for name, ident in actors.items()]
    return "\n    ".join(["sequenceDiagram", *heads, *drawn])


def arrow(actor: Callable[[str], str], who: str, what: str) -> str:
    what = what.replace(";", ",").replace("#", "")
    if call := re.fullmatch(r"channel\.(\w+) → (\S+)", what):
        return f"{actor(who)}->>{actor(call[2])}: {call[1]}"
    if call := re.fullmatch(r"(ledger|kafka)\.(\w+:? ?.*)", what):
        return f"{actor(who)}->>{actor(call[1])}: {call[2]}"
    if what.startswith("effect of "):
        return f"{actor(who)}->>{actor('target')}: {what}"
    return f"Note over {actor(who)}: {what.removeprefix('| ')}"


DIAGRAMS: dict[str, Callable[[], str]] = {"offices": offices, "late_commit": late_commit}


def redrawn(page: str) -> str:
    return BLOCK.sub(lambda found: f"{found[1]}```mermaid\n{DIAGRAMS[found[2]]()}\n```\n{found[4]}", page)


def main(arguments: list[str]) -> int:
    page = PAGE.read_text()
    if "--write" in arguments:
        PAGE.write_text(redrawn(page))
        return 0
    return int(redrawn(page) != page)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
