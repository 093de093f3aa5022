"""The evidence check: what facts decide is written, the user's check is asked, people's rulings are written (section 6).

Plain functions over the ledger, called by the evidence-check DAG's tasks. Each may be run again, late, or twice at once: every
write names the doubt's version, and one that changed nothing is reported as a no-op, not tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from airflow_kafka_exactly.ports import EvidenceLedger
from airflow_kafka_exactly.protocol.claims import CheckReference, DoubtFacts, DoubtState, Verdict
from airflow_kafka_exactly.protocol.evidence import (
    Answer,
    AskCheck,
    AskPerson,
    Decided,
    Over,
    Ruling,
    Wait,
    decision,
    rule,
    weigh,
)
from airflow_kafka_exactly.protocol.record import FencingToken, RawRecord, Record, seen_by_user
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.runtime.calling import answer_of
from airflow_kafka_exactly.runtime.each import each
from airflow_kafka_exactly.runtime.function import FAILURES

log = logging.getLogger(__name__)

Resolve = Callable[[CheckReference], Callable[..., Any]]
"""Finds the user's check; raises when there is none."""

FACTS_AT_ONCE = 200
LOOK_AGAIN_S = 60.0
NOTHING_CHANGED_S = 3600.0


@dataclass(slots=True)
class Examined:
    """How each doubt that was looked at stands now. Ids are the ledger's."""

    decided: list[int] = field(default_factory=list)
    no_op: list[int] = field(default_factory=list)
    """Settled by somebody else, or changed since it was judged."""
    waiting: dict[int, Wait] = field(default_factory=dict)
    to_check: list[DoubtFacts] = field(default_factory=list)
    to_ask: list[DoubtFacts] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    """Could not be judged or written: why. They stay open; their neighbours went on."""
    evidence: dict[int, dict[str, object]] = field(default_factory=dict)
    """What the check said, of those that a person must decide."""


def waits(ledger: EvidenceLedger, doubt_ids: Iterable[int]) -> dict[int, Wait]:
    """The doubts that no fact decides yet, each with why and for how long. Decides nothing."""
    ids, waiting = list(doubt_ids), dict[int, Wait]()
    for at in range(0, len(ids), FACTS_AT_ONCE):
        for facts in ledger.facts_of(ids[at : at + FACTS_AT_ONCE]):
            judgement = weigh(facts)
            if isinstance(judgement, Wait):
                waiting[facts.doubt_id] = judgement
    return waiting


def leave(ledger: EvidenceLedger, versions: Mapping[int, int], waiting: Mapping[int, Wait]) -> None:
    """Leave doubts to a later announcement: when their time has come, or soon when nothing says when that is. What tells when it
    changes is announced then, and without a change rarely."""
    by_time: dict[float, dict[int, int]] = {}
    for doubt_id, wait in waiting.items():
        known_s = LOOK_AGAIN_S if wait.for_s is None else wait.for_s
        by_time.setdefault(NOTHING_CHANGED_S if wait.tells else known_s, {})[doubt_id] = versions[doubt_id]
    for for_s, left in by_time.items():
        ledger.hold(left, for_s)


def examine(ledger: EvidenceLedger, doubt_ids: Iterable[int], resolve: Resolve | None = None) -> Examined:
    """Judge doubts and write what is decided. With `resolve`, the checks that are called for are asked as well."""
    examined, ids = Examined(), list(dict.fromkeys(doubt_ids))
    for at in range(0, len(ids), FACTS_AT_ONCE):
        _examine_some(ledger, ids[at : at + FACTS_AT_ONCE], resolve, examined)
    return examined


def _examine_some(
    ledger: EvidenceLedger, ids: Sequence[int], resolve: Resolve | None, into: Examined
) -> None:
    found = {facts.doubt_id: facts for facts in ledger.facts_of(ids)}
    into.no_op.extend(doubt_id for doubt_id in ids if doubt_id not in found)
    failed = each(
        found,
        lambda doubt_id: _examine(ledger, found[doubt_id], resolve, into),
        "evidence of a doubt",
        lambda: ledger.facts_of(list(found)[:1]),
    )
    into.failed.update(failed)


def _examine(ledger: EvidenceLedger, facts: DoubtFacts, resolve: Resolve | None, into: Examined) -> None:
    judgement, said = weigh(facts), dict[str, object]()
    if isinstance(judgement, AskCheck) and resolve is not None:
        # Asked after the facts were read and found ripe; the version binds the answer to them (S7).
        answer, said = ask(ledger, facts, resolve)
        judgement = weigh(facts, answer)
    match judgement:
        case Over():
            into.no_op.append(facts.doubt_id)
        case Wait():
            into.waiting[facts.doubt_id] = judgement
        case AskCheck():
            into.to_check.append(facts)
        case AskPerson():
            into.to_ask.append(facts)
            into.evidence[facts.doubt_id] = {"why": judgement.why, **said}
        case Decided():
            _decide(ledger, facts, judgement, said, into)
        case _:
            assert_never(judgement)


def _decide(
    ledger: EvidenceLedger, facts: DoubtFacts, decided: Decided, said: dict[str, object], into: Examined
) -> None:
    done = ledger.decide(decision(facts, decided, said))
    (into.decided if done else into.no_op).append(facts.doubt_id)
    outcome = decided.verdict.value if done else "a no-op: somebody else was first, or it changed"
    log.info("doubt %d, %s %s: %s (%s)", facts.doubt_id, facts.partition, facts.range, outcome, decided.why)


# -- the user's check --------------------------------------------------------------------------------------------------


def ask(ledger: EvidenceLedger, facts: DoubtFacts, resolve: Resolve) -> tuple[Answer, dict[str, object]]:
    """Ask the user's check about a doubt's records. A check that raises, or cannot be found, cannot tell; its error is
    evidence for the person."""
    records = [_record(facts, raw) for raw in ledger.payload(facts.doubt_id)]
    if not records:
        return Answer.CANNOT_TELL, {"answer": "not asked: no record is stored"}
    try:
        answer = _ask(resolve(facts.check), facts.check, records)
    except FAILURES as error:
        log.warning(
            "the check raised for doubt %d, %s %s",
            facts.doubt_id,
            facts.partition,
            facts.range,
            exc_info=True,
        )
        return Answer.CANNOT_TELL, {"answer": "the check raised", "error": told(error)}
    return answer, {"answer": answer.name.lower()}


def _ask(check: Callable[..., Any], how: CheckReference, records: Sequence[Record]) -> Answer:
    if how.batch:
        return answer_of(check(list(records), *how.args, **how.kwargs))
    answers = {answer_of(check(record, *how.args, **how.kwargs)) for record in records}
    return answers.pop() if len(answers) == 1 else Answer.CANNOT_TELL


def _record(facts: DoubtFacts, raw: RawRecord) -> Record:
    token = FencingToken(facts.claim_id or 0, facts.incarnation or 0)
    return seen_by_user([raw], facts.partition, facts.cluster_id, token)[0]


# -- people ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A person's answer about one doubt, as it was when they were asked."""

    doubt_id: int
    version: int
    ruling: Ruling
    person: str
    note: str = ""


def settle(ledger: EvidenceLedger, rulings: Sequence[Ruled]) -> Examined:
    """Write people's rulings. One about a doubt that has changed since (a double click, a late answer) is a no-op."""
    examined = Examined()
    found = {facts.doubt_id: facts for facts in ledger.facts_of([r.doubt_id for r in rulings])}
    failed = each(
        rulings,
        lambda ruled: _settle(ledger, found.get(ruled.doubt_id), ruled, examined),
        "a ruling",
        lambda: ledger.facts_of(list(found)[:1]),
    )
    examined.failed.update((ruled.doubt_id, why) for ruled, why in failed.items())
    return examined


def _settle(ledger: EvidenceLedger, facts: DoubtFacts | None, ruled: Ruled, into: Examined) -> None:
    if facts is None or facts.version != ruled.version or isinstance(weigh(facts), Over):
        into.no_op.append(ruled.doubt_id)
        return
    said: dict[str, object] = {"person": ruled.person, **({"note": ruled.note} if ruled.note else {})}
    _decide(ledger, facts, rule(ruled.ruling, ruled.person, facts), said, into)


def give_up(ledger: EvidenceLedger, doubt_ids: Sequence[int], person: str, reason: str) -> Mapping[int, str]:
    """A person closes doubts whose payload does not come any more, as lost. Returns the ones that were refused, and why: what has
    its payload can be judged, and is."""
    found, refused = {facts.doubt_id: facts for facts in ledger.facts_of(doubt_ids)}, dict[int, str]()
    for doubt_id in doubt_ids:
        facts = found.get(doubt_id)
        why_not = "there is no such doubt" if facts is None else _why_not_given_up(facts)
        if facts is not None and not why_not:
            decided = Decided(Verdict.UNKNOWN, person, f"{person}: {reason}", dead_letter=True)
            if not ledger.decide(decision(facts, decided, {"person": person, "note": reason})):
                why_not = "it has changed just now, or a claim that is open holds it"
        if why_not:
            refused[doubt_id] = why_not
    return refused


def _why_not_given_up(facts: DoubtFacts) -> str:
    if facts.state not in (DoubtState.OPEN, DoubtState.RELEASED):
        return f"it is {facts.state.value}"
    if facts.durable:
        return "its payload is stored: the evidence check judges it, or asks a person"
    return "an applied mark covers it" if facts.settled_elsewhere else ""
