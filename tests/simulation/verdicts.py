"""S7 and L2 of whatever decides about a record without running it: checks, people, policies, and members that bury.

A verdict must be true, made by who may know it, on the version it was judged by. A policy is believed, right or wrong, but
only the one that the user chose, where nothing else decides. A member buries only what it has tried as often as was said,
and what provably had no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulation.effects import Functions, Key, key_of
from simulation.kernel import Process
from simulation.plan import Kind, Plan

from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.adapters.memory.ledger_state import DoubtRow, LetterRow, PlaceRow
from airflow_kafka_exactly.protocol.claims import Claim, Decision, DoubtKind, Outcome, Verdict
from airflow_kafka_exactly.protocol.record import Partition, RawRecord

UNDECIDABLE = (Kind.UNCHECKED, Kind.UNSURE)
PROVABLE = (Kind.CHECKED, Kind.UNIT, Kind.LEDGER)
"""A check can tell, or the ledger's own transaction does, that an exception left nothing behind."""


class Verdicts:
    def __init__(self, plan: Plan, ledger: MemoryLedger, functions: Functions) -> None:
        self._plan, self._state, self._functions = plan, ledger.state, functions
        self.target, self.patience = functions.target, functions.patience
        self.violate: Callable[[str], None]
        self._letters: set[int] = set()
        self._by_policy: set[Key] = set()

    def excused(self, key: Key) -> bool:
        """The user chose in writing that such a record may have no effect, or be a dead letter that had one."""
        return key in self._by_policy

    # -- evidence, people, policies

    def decided(self, decision: Decision, held: tuple[int | None, DoubtKind | None]) -> None:
        version, kind = held
        doubt = self._state.doubt(decision.doubt_id)
        assert doubt is not None
        self._new_letters()
        which = f"doubt {decision.doubt_id}"
        if version != decision.version:
            self.violate(f"S7: a verdict on version {decision.version} of {which} changed version {version}")
        if kind in (DoubtKind.WINDOW, DoubtKind.RAISED) and decision.by == "ledger":
            self.violate(f"S7: the ledger alone decided {which}, of kind {kind}")
        if decision.dead_letter and decision.by in ("ledger", "check"):
            self.violate(f"S7: {which} became a dead letter by {decision.by}, without a ruling")
        if decision.by == "policy":
            self._chosen(decision, doubt)
        elif (
            decision.by not in ("ledger", "check")
            and self._plan.choices.on_undecidable != "person"
            and doubt.durable  # no policy but "discard" says what becomes of a record that does not come any more
        ):
            self.violate(f"S7: {which} was decided by {decision.by}, and the user chose a policy")
        self._true(decision, doubt)

    def _chosen(self, decision: Decision, doubt: DoubtRow) -> None:
        chosen = self._plan.choices.on_undecidable
        right = {
            "redo": decision.verdict is Verdict.NOT_APPLIED and not decision.dead_letter,
            "discard": decision.verdict is Verdict.APPLIED and not decision.dead_letter,
            "dead_letter": decision.dead_letter,
        }
        if self._plan.kind not in UNDECIDABLE or not right.get(chosen):
            self.violate(
                f"S7: doubt {doubt.doubt_id} was decided by a policy ({decision.verdict}); chosen is {chosen}"
            )
        self._by_policy.update(_keys(doubt))
        if chosen == "redo":
            self.target.unique.update(_keys(doubt))

    def _true(self, decision: Decision, doubt: DoubtRow) -> None:
        keys = [key for key in _keys(doubt) if not self.excused(key)]
        happened = [bool(self.target.count[k] or self.target.flying[k]) for k in keys]
        if decision.verdict is Verdict.APPLIED and not decision.dead_letter and not all(happened):
            self.violate(
                f"L2: doubt {decision.doubt_id} was discarded by {decision.by} as applied; it never happened"
            )
        if decision.verdict is Verdict.NOT_APPLIED and any(happened):
            self.violate(
                f"S7: doubt {decision.doubt_id} was released by {decision.by}; its effect had happened"
            )

    def closed(self, doubt: DoubtRow, log: Any) -> None:
        """`log`: of its partition, unless that is gone."""
        keys = [key for key in _keys(doubt) if not self.excused(key)]
        which = f"doubt {doubt.doubt_id} of {doubt.place.partition}"
        undone = not all(self.target.count[k] > 0 for k in keys)
        if doubt.outcome in (Outcome.DISCARDED, Outcome.REDONE) and undone:
            self.violate(f"L2: {which} was closed as {doubt.outcome} without its effect")
        holds = log is not None and any(doubt.start <= r.offset < doubt.stop for r in log.records)
        if doubt.outcome is Outcome.NO_RECORD and holds:
            self.violate(f"L2: {which} was closed as a gap; it holds a record")

    # -- members

    def buried(self, process: Process, of: Claim, log: Any) -> None:
        """What a member has just made a dead letter; nothing, when it was one already."""
        for place, letter in self._new_letters():
            key = key_of(place.partition, letter.record.offset)
            failed = self._functions.failed.get((process.name, key), [])
            tries = sum(len(moods) for (_, of_key), moods in self._functions.failed.items() if of_key == key)
            which = f"{place.partition} {letter.record.offset}"
            most = self._plan.choices.max_attempts
            if tries < most or not failed:
                self.violate(f"S7: {process} buried {which} after {tries} tries of {most}")
            if not self._provable and any(mood != "proves" for mood in failed):
                self.violate(f"S7: {process} buried {which} without a ruling; nobody knows its outcome")
            if (self.target.count[key] or self.target.flying[key]) and not self.excused(key):
                self.violate(f"S7: {process} buried {which}, whose effect happened or is under way")
            self.patience.buried(process, key, more=self._more(log, of, letter.record.offset))

    @staticmethod
    def _more(log: Any, of: Claim, offset: int) -> bool:
        return any(offset < record.offset < of.range.stop for record in log.records) if log else False

    def cut(self, process: Process, partition: Partition, records: Sequence[RawRecord]) -> None:
        self.patience.cut(process, [key_of(partition, record.offset) for record in records])

    @property
    def _provable(self) -> bool:
        return self._plan.kind in PROVABLE or self._plan.choices.vouches

    def _new_letters(self) -> list[tuple[PlaceRow, LetterRow]]:
        new = [
            (p, x) for p in self._state.places.values() for x in p.letters if x.number not in self._letters
        ]
        self._letters.update(letter.number for _, letter in new)
        return new


def _keys(doubt: DoubtRow) -> list[Key]:
    return [key_of(doubt.place.partition, offset) for offset in sorted(doubt.records)]
