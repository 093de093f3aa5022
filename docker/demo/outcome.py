"""The table at the end, the machine-readable last line, and the judgement."""

from dataclasses import dataclass, field

from demo.payments import EffectCount
from demo.scene import Scene
from demo.votes import count_votes

_DOUBT_ENDS = {
    "discarded": "the effect had happened",
    "redone": "it had not, so it was run",
    "dead_letter": "given up",
    "no_record": "a gap in the log",
}
_ORPHAN_ENDS = {
    "superseded": "the group's offset had passed them",
    "member": "the partition's owner committed them",
    "altered": "the leader altered the empty group's offset",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known when the story is over."""

    produced: int
    count: EffectCount
    doubts_open: int
    doubts_raised: int
    orphans_open: int
    orphans_raised: int
    faults: dict[str, bool] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """Why this run proves nothing, or the opposite of what it should; empty when all is well."""
        wrong = {
            f"{len(self.count.missing)} records have no effect: {self.count.missing[:5]}": self.count.missing,
            f"{len(self.count.repeated)} records have more than one effect: {self.count.repeated[:5]}": self.count.repeated,
            f"{self.count.effects} effects of {self.produced} records": self.count.effects != self.produced,
            f"{self.doubts_open} doubts are open": self.doubts_open,
            f"{self.orphans_open} orphan commits are open": self.orphans_open,
            "no doubt was ever raised": not self.doubts_raised,
            "no orphan commit was ever raised": not self.orphans_raised,
        }
        missed = [f"the fault {name!r} hit nothing" for name, hit in self.faults.items() if not hit]
        return [what for what, happened in wrong.items() if happened] + missed

    def last_line(self, seconds: float) -> str:
        return (
            f"demo: records={self.produced} effects={self.count.effects} missing={len(self.count.missing)} "
            f"repeated={len(self.count.repeated)} doubts_open={self.doubts_open} orphans_open={self.orphans_open} "
            f"doubts={self.doubts_raised} orphans={self.orphans_raised} faults={sum(self.faults.values())} seconds={seconds:.0f}"
        )


def outcome(scene: Scene, produced: set[tuple[int, int]], faults: dict[str, bool]) -> Outcome:
    return Outcome(
        produced=len(produced),
        count=scene.effects.compare(produced),
        doubts_open=sum(scene.books.unclosed_doubts().values()),
        doubts_raised=sum(scene.books.doubts_by_kind().values()),
        orphans_open=scene.books.open_orphans(),
        orphans_raised=sum(scene.books.orphans_by_end().values()),
        faults=faults,
    )


def table(scene: Scene, end: Outcome) -> str:
    """Plain text, two columns and a remark."""
    rows = [
        ("records produced", end.produced, ""),
        ("effects", end.count.effects, "in a table without a unique key"),
        ("effects missing", len(end.count.missing), ""),
        ("effects repeated", len(end.count.repeated), ""),
        *_votes(scene),
        *_doubts(scene),
        *_orphans(scene),
        ("leader epochs", scene.books.leader()[0], ""),
        *((f"wall time: {name}", f"{seconds:.1f} s", "") for name, seconds in scene.progress.phases.items()),
        ("wall time", f"{scene.progress.elapsed_seconds:.1f} s", ""),
    ]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value!s:>9}  {remark}".rstrip() for name, value, remark in rows)


def _votes(scene: Scene) -> list[tuple[str, object, str]]:
    votes = count_votes(scene.stack.state)
    remark = "as the leaders last logged them; one that is killed takes its last seconds along"
    return [
        (f"votes {name}", n, remark if place == 0 else "") for place, (name, n) in enumerate(votes.items())
    ]


def _doubts(scene: Scene) -> list[tuple[str, object, str]]:
    kinds = ", ".join(f"{n} {kind}" for kind, n in scene.books.doubts_by_kind().items())
    ends = [(f"doubts {end}", n, _DOUBT_ENDS.get(end, "")) for end, n in scene.books.doubts_by_end().items()]
    return [("doubts", sum(scene.books.doubts_by_kind().values()), kinds), *ends]


def _orphans(scene: Scene) -> list[tuple[str, object, str]]:
    found = scene.books.orphans_by_end()
    ends = [(f"orphan commits {end}", n, _ORPHAN_ENDS.get(end, "")) for end, n in found.items()]
    return [("orphan commits", sum(found.values()), ""), *ends]
