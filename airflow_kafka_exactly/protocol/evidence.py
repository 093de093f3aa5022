"""What facts decide about a doubt, and what only a check or a person can (section 6). The last stage of a record's life.

`weigh` is the whole table. In words:

    a vote or collision doubt     the ledger decides: applied -> discarded, in an open claim -> wait, in no claim -> released
    no payload, none comes        a person
    the window of a fenced life   the check, asked after the lease's end + `effect_timeout`
    raised by the function        the check, asked `effect_timeout` after the function raised, whatever the life does

An exception, a silent life or an unanswered question is never proof (S7). "In no claim" and marks say nothing about a doubt
that was raised or lies in a window: its record was cut out of its claim, so the first would run an effect twice and the
second would lose one (F1 of the protocol's model).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import assert_never

import numpy as np

from airflow_kafka_exactly.protocol.claims import Decision, DoubtFacts, DoubtKind, DoubtState, Verdict

UNREAD_FOR_S = 86_400.0
"""A partition that nobody reads for so long may be one that nobody reads any more: its topic is gone, or was taken out of
`topics`. Shorter, and a consumer that is off for the night would be asked about."""


class Answer(Enum):
    """What the user's check said: did the effect happen?"""

    NOT_ASKED = auto()
    YES = auto()
    NO = auto()
    CANNOT_TELL = auto()

    @classmethod
    def of(cls, value: object) -> Answer:
        """A check answers True, False or None. Anything else (a coroutine, a row) is a mistake, and none of them is proof:
        TypeError."""
        if value is None:
            return cls.CANNOT_TELL
        if isinstance(value, bool | np.bool_):
            return cls.YES if value else cls.NO
        raise TypeError(f"the check returned {type(value).__name__}; it must answer True, False or None")


@dataclass(frozen=True, slots=True)
class Over:
    """Somebody has decided this doubt already; nothing is left to judge."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """No fact decides yet. `for_s` seconds from the facts' reading one may; None when no clock says so."""

    for_s: float | None
    why: str
    tells: bool = False
    """The doubt changes when this is over, and is announced then: nobody needs to look before."""


@dataclass(frozen=True, slots=True)
class AskCheck:
    """Now the check's answer counts."""

    why: str


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Nothing that a program knows decides."""

    why: str


@dataclass(frozen=True, slots=True)
class Decided:
    verdict: Verdict
    by: str
    why: str
    dead_letter: bool = False


Judgement = Over | Wait | AskCheck | AskPerson | Decided


def weigh(facts: DoubtFacts, answer: Answer = Answer.NOT_ASKED) -> Judgement:
    """Judge an open doubt by its facts. An `answer` must have been asked after these facts were read and called for it."""
    if facts.state is not DoubtState.OPEN:
        return Over(f"it is {facts.state.value}")
    match facts.kind:
        case DoubtKind.VOTE | DoubtKind.COLLISION:
            return _by_ledger(facts)
        case DoubtKind.WINDOW:
            return _unripe_window(facts) or _without_payload(facts) or _by_check(facts, answer)
        case DoubtKind.RAISED:
            return _unripe_raised(facts) or _without_payload(facts) or _by_check(facts, answer)
        case _:
            assert_never(facts.kind)


def _by_ledger(facts: DoubtFacts) -> Judgement:
    if facts.settled_elsewhere:
        return Decided(Verdict.APPLIED, "ledger", "an applied mark covers it")
    if facts.claim_id is not None:
        doing = "may be running it" if facts.claim_started else "is about to run it"
        return Wait(
            None, f"{_life(facts)} {doing} (claim {facts.claim_id}): it ends in a mark, or its life is fenced"
        )
    return Decided(Verdict.NOT_APPLIED, "ledger", "it is in no claim, so nobody has started it (S3)")


def _unripe_window(facts: DoubtFacts) -> Wait | None:
    effect_timeout_s = facts.check.effect_timeout_s
    if facts.claim_id is not None:
        return Wait(None, f"claim {facts.claim_id} covers it")
    if facts.lease_left_s > 0:
        return Wait(
            facts.lease_left_s + effect_timeout_s,
            f"the lease of {_life(facts)} is not over: silence is no proof",
        )
    if facts.since_lease_end_s < effect_timeout_s:
        left = effect_timeout_s - facts.since_lease_end_s
        return Wait(
            left, f"an effect of {_life(facts)} may still be under way in the target (effect_timeout)"
        )
    return None


def _unripe_raised(facts: DoubtFacts) -> Wait | None:
    if facts.age_s < facts.check.effect_timeout_s:
        left = facts.check.effect_timeout_s - facts.age_s
        return Wait(left, "the effect may still be under way in the target (effect_timeout)")
    return None


def _without_payload(facts: DoubtFacts) -> Judgement | None:
    """A check needs the record, and an offset that turns out to be a gap needs no judgement at all (S2). A record that does not
    come any more is for a person: no check can be asked about it, and it cannot be run again."""
    if facts.durable:
        return None
    why = _why_it_does_not_come(facts)
    if not why:
        return Wait(None, "its payload is not stored until Kafka delivers it again (S2)", tells=True)
    if facts.check.on_undecidable == "discard":
        return Decided(Verdict.APPLIED, "policy", f"{why}, on_undecidable='discard'")
    return AskPerson(f"{why}, so it cannot be checked, and not be run again unless it comes")


def _why_it_does_not_come(facts: DoubtFacts) -> str:
    """Empty while it may."""
    if facts.passed:
        return "the group's offset was moved past it before its payload was stored"
    if facts.unread and facts.age_s >= UNREAD_FOR_S:
        return "its payload has not come, and no member reads its partition"
    return ""


def _by_check(facts: DoubtFacts, answer: Answer) -> Judgement:
    if not facts.check.path:
        return _by_policy(facts, "there is no check")
    match answer:
        case Answer.NOT_ASKED:
            return AskCheck(f"the check is asked: {facts.check.path}")
        case Answer.YES:
            return Decided(Verdict.APPLIED, "check", f"{facts.check.path} says it happened")
        case Answer.NO:
            return Decided(Verdict.NOT_APPLIED, "check", f"{facts.check.path} says it did not happen")
        case Answer.CANNOT_TELL:
            return _by_policy(facts, f"{facts.check.path} cannot tell")
        case _:
            assert_never(answer)


def _by_policy(facts: DoubtFacts, why: str) -> Judgement:
    """What the user chose in writing for the undecidable; a person unless they chose anything else (S7)."""
    why = f"{why}, on_undecidable={facts.check.on_undecidable!r}"
    match facts.check.on_undecidable:
        case "redo":
            return Decided(Verdict.NOT_APPLIED, "policy", why)
        case "discard":
            return Decided(Verdict.APPLIED, "policy", why)
        case "dead_letter":
            return Decided(Verdict.UNKNOWN, "policy", why, dead_letter=True)
        case _:
            return AskPerson(why)


def _life(facts: DoubtFacts) -> str:
    return f"{facts.slot} (incarnation {facts.incarnation})" if facts.slot else "an earlier life"


def decision(facts: DoubtFacts, decided: Decided, evidence: Mapping[str, object]) -> Decision:
    """Bind a verdict to the very facts that were judged: the ledger refuses it when they are not current any more."""
    assert decided.verdict is not Verdict.UNKNOWN or decided.dead_letter, "S7: unknown is no verdict"
    return Decision(
        doubt_id=facts.doubt_id,
        version=facts.version,
        verdict=decided.verdict,
        by=decided.by,
        evidence={"why": decided.why, "kind": facts.kind.value, "reason": facts.reason, **evidence},
        dead_letter=decided.dead_letter,
    )


# -- people ------------------------------------------------------------------------------------------------------------


class Ruling(StrEnum):
    """A person's answers, in the words they read."""

    HAPPENED = "It happened"
    REDO = "It did not happen: run it again"
    DEAD_LETTER = "Dead letter"


def rule(ruling: Ruling, person: str, facts: DoubtFacts) -> Decided:
    why = f"{person}: {ruling.value}"
    match ruling:
        case Ruling.HAPPENED:
            return Decided(Verdict.APPLIED, person, why)
        case Ruling.REDO if facts.passed:
            return Decided(
                Verdict.NOT_APPLIED, person, f"{why}; nothing is left to run it from", dead_letter=True
            )
        case Ruling.REDO:
            return Decided(Verdict.NOT_APPLIED, person, why)
        case Ruling.DEAD_LETTER:
            return Decided(Verdict.UNKNOWN, person, why, dead_letter=True)
        case _:
            assert_never(ruling)


def cases(doubts: Iterable[DoubtFacts]) -> Sequence[Sequence[DoubtFacts]]:
    """Doubts with one cause (the same life, partition, kind and reason) are one case: one question to a person."""
    grouped: dict[object, list[DoubtFacts]] = {}
    for facts in sorted(doubts, key=lambda f: (f.partition, f.range.start, f.doubt_id)):
        cause = (facts.group_id, facts.partition, facts.slot, facts.incarnation, facts.kind, facts.reason)
        grouped.setdefault(cause, []).append(facts)
    return list(grouped.values())
