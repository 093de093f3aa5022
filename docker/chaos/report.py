"""Each fault with the time until progress went on, then the judgement, then one line for programs."""

from collections import Counter
from dataclasses import dataclass

from demo.payments import EffectCount

from chaos.nemesis import Fault, Nemesis
from chaos.observing import Observer
from chaos.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    minutes: float
    records: int
    unconfirmed: int
    """Records of which the broker's confirmation never reached the producer."""
    count: EffectCount
    unresolved: int
    faults: int
    reasons: list[str]
    """Why the run failed, apart from the numbers."""

    def failures(self) -> list[str]:
        wrong = {
            f"{len(self.count.missing)} records have no effect: {self.count.missing[:5]}": self.count.missing,
            f"{len(self.count.repeated)} records have several: {self.count.repeated[:5]}": self.count.repeated,
            f"{self.count.effects} effects of {self.records} records": self.count.effects != self.records,
            f"{self.unresolved} doubts or orphan commits are open": self.unresolved,
            "no record was produced": not self.records,
            "no fault hit anything": not self.faults,
        }
        return [what for what, happened in wrong.items() if happened] + self.reasons

    def last_line(self) -> str:
        return (
            f"chaos: minutes={self.minutes:g} records={self.records} effects={self.count.effects} "
            f"missing={len(self.count.missing)} repeated={len(self.count.repeated)} faults={self.faults} "
            f"unresolved={self.unresolved}"
        )


def table(nemesis: Nemesis, observer: Observer, stage: Stage) -> str:
    """For each fault: when, what, how long, and until when the next effect came and all that was produced before had settled."""
    rows = ["   time  fault                                lasted  next effect  settled  hit"]
    rows += [_row(fault, observer) for fault in nemesis.faults]
    books = stage.scene.books
    kinds = Counter(fault.kind for fault in nemesis.faults)
    rows += [
        "",
        "faults by kind: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
        f"missed (nothing to hit, or the way there was down): {', '.join(nemesis.missed) or 'none'}",
        f"doubts by kind: {books.doubts_by_kind() or 'none'}; by end: {books.doubts_by_end() or 'none'}",
        f"orphan commits by end: {books.orphans_by_end() or 'none'}; leader epochs: {books.leader()[0]}",
        f"started again by the supervisor: {stage.relaunched}",
        f"member tasks cleared because they ended: {', '.join(stage.failed_tasks) or 'none'}",
    ]
    return "\n".join(rows)


def _row(fault: Fault, observer: Observer) -> str:
    lasted = "" if fault.hit.heal is None else _seconds((fault.healed_s or fault.struck_s) - fault.struck_s)
    effect = _seconds(observer.next_effect_s(fault.struck_s, fault.effects))
    settled = _seconds(observer.settled_s(fault.struck_s, fault.produced))
    return (
        f"{fault.struck_s:5.1f} s  {fault.kind:35} {lasted:>8} {effect:>12} {settled:>8}  {fault.hit.target}"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
