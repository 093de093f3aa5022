"""What evidence runs and people ask of the ledger about doubts."""

from __future__ import annotations

from typing import Any

from interleavings.operations import Party, Steps, operation
from interleavings.scenes import Scene

from airflow_kafka_exactly.protocol.claims import Decision, DoubtFacts, Verdict
from airflow_kafka_exactly.protocol.evidence import Answer, AskCheck, Decided, decision, weigh


def doubted(scene: Scene) -> bool:
    return bool(scene.doubts)


def _truth(p: Party, facts: DoubtFacts) -> Answer:
    answers = {
        (facts.partition.number, r.offset) in p.happened for r in p.ledger.evidence.payload(facts.doubt_id)
    }
    return Answer.CANNOT_TELL if len(answers) != 1 else Answer.YES if answers.pop() else Answer.NO


def _evidence(p: Party, which: int) -> Steps:
    facts = p.ledger.evidence.facts_of([p.scene.doubts[which].doubt_id])[0]
    yield
    judged = weigh(facts)
    if isinstance(judged, AskCheck):
        judged = weigh(facts, _truth(p, facts))
    if not isinstance(judged, Decided):
        return type(judged).__name__
    yield
    return judged.verdict, p.ledger.evidence.decide(decision(facts, judged, {}))


@operation(doubted)
def evidence(p: Party) -> Steps:
    return (yield from _evidence(p, 0))


def _rule(p: Party, facts: DoubtFacts, verdict: Verdict, *, dead_letter: bool = False) -> Any:
    ruling = Decision(
        doubt_id=facts.doubt_id,
        version=facts.version,
        verdict=verdict,
        by="a person",
        evidence={},
        dead_letter=dead_letter,
    )
    return p.ledger.evidence.decide(ruling)


@operation(doubted)
def rule_by_hand(p: Party) -> Steps:
    """A person who has looked at the target, and says what is true of the doubt as it was shown."""
    facts = p.scene.doubts[0]
    truth = _truth(p, facts) if facts.durable else Answer.CANNOT_TELL
    yield
    verdict = {Answer.YES: Verdict.APPLIED, Answer.NO: Verdict.NOT_APPLIED}.get(truth, Verdict.UNKNOWN)
    return _rule(p, facts, verdict)


@operation(doubted)
def bury_by_hand(p: Party) -> Steps:
    yield from ()
    return _rule(p, p.scene.doubts[-1], Verdict.UNKNOWN, dead_letter=True)


@operation(doubted)
def give_up(p: Party) -> Steps:
    """No check can tell."""
    yield from ()
    return _rule(p, p.scene.doubts[0], Verdict.UNKNOWN)


@operation(doubted)
def announce(p: Party) -> Steps:
    yield from ()
    p.ledger.evidence.announce(1, 60.0)


@operation(doubted)
def hold(p: Party) -> Steps:
    yield from ()
    p.ledger.evidence.hold({p.scene.doubts[0].doubt_id: p.scene.doubts[0].version}, 3600.0)
