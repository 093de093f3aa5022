"""The evidence-check DAG's tasks. All of them may be cleared, run again, late, or twice at once (`runtime/evidence.py`).

XCom carries ids, versions and verdicts; keys are shown to the person who is asked, values to nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_kafka_exactly import hooks, wiring
from airflow_kafka_exactly.evidence_trigger import EvidenceTrigger
from airflow_kafka_exactly.failures import as_airflows
from airflow_kafka_exactly.functions import resolve
from airflow_kafka_exactly.ports import EvidenceLedger
from airflow_kafka_exactly.protocol.claims import DoubtFacts, DoubtKind
from airflow_kafka_exactly.protocol.evidence import AskCheck, Ruling, cases, weigh
from airflow_kafka_exactly.protocol.evidence import AskPerson as Undecidable
from airflow_kafka_exactly.protocol.record import LAST_OFFSET, OffsetRange
from airflow_kafka_exactly.runtime import evidence

log = logging.getLogger(__name__)

SWEEP_AT_MOST = 1000
CASES_AT_MOST = 100
RECORDS_SHOWN = 20
KEY_CHARACTERS = 80
TEXT_CHARACTERS = 500

FAILED = "failed"
"""The XCom key of doubts that a task could not judge, with why."""
HOLD_S = 120.0
"""While a run works on doubts they are not announced again; should it die, they are after this time."""

Case = Mapping[str, Any]
"""`{"doubts": [[id, version], ...], "evidence": {...}}`: what one person is asked about at once."""


@contextmanager
def evidence_ledger() -> Iterator[EvidenceLedger]:
    """The ledger as a task uses it; this package's errors become Airflow's: no retry for what only a person can mend."""
    with as_airflows(), wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        yield ledgers.evidence


# -- gather ------------------------------------------------------------------------------------------------------------


class GatherDoubts(BaseOperator):
    """Which doubts this run is about: those that can be judged. When there is none yet, it waits for the first in the
    triggerer, at most `wait_at_most`. The rest is left to a later announcement: no doubt waits for another one.

    The doubts come from every asset event that triggered the run, and from the form; without a form each run also takes all open
    ones that no other run works on: an event that comes while Airflow (3.3.2) creates the run for the one before gets no run of
    its own, and would wait for the next one. Returns their ids.
    """

    def __init__(self, *, wait_at_most: timedelta = timedelta(minutes=10), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wait_at_most = wait_at_most

    def execute(self, context: Any) -> list[int]:
        announced = announced_doubts(context.get("triggering_asset_events") or {})
        with evidence_ledger() as ledger:
            doubts = sorted({*announced, *_asked_for(ledger, context["params"])})
            ripe, waited_for = _go_on(ledger, doubts, self.wait_at_most.total_seconds())
        log.info("%d doubts, of which %d can be judged now", len(doubts), len(ripe))
        if waited_for:
            self.defer(
                trigger=EvidenceTrigger(waited_for, self.wait_at_most.total_seconds()), method_name="ripened"
            )
        return ripe

    def ripened(self, context: Any, event: Mapping[str, Any]) -> list[int]:  # noqa: ARG002 - Airflow's interface
        if "error" in event:
            raise (AirflowFailException if event.get("final") else AirflowException)(event["error"])
        for doubt_id, why in event["waiting"].items():
            log.warning("doubt %s still waits and stays open: %s", doubt_id, why)
        with evidence_ledger() as ledger:
            return _go_on(ledger, event["doubts"])[0]


def _go_on(
    ledger: EvidenceLedger, doubts: Sequence[int], wait_at_most_s: float = 0.0
) -> tuple[list[int], list[int]]:
    """The ripe ones; or, when there is none, those that are worth waiting for. Both are this run's; the rest is left."""
    versions = {facts.doubt_id: facts.version for facts in ledger.facts_of(doubts)}
    waiting = evidence.waits(ledger, versions)
    ripe = [doubt_id for doubt_id in doubts if doubt_id not in waiting]
    waited_for = [d for d, wait in waiting.items() if wait_at_most_s and not ripe and not wait.tells]
    evidence.leave(ledger, versions, {d: wait for d, wait in waiting.items() if d not in waited_for})
    ledger.hold(
        {d: versions[d] for d in (*ripe, *waited_for) if d in versions},
        HOLD_S + (wait_at_most_s if waited_for else 0),
    )
    return ripe, waited_for


def announced_doubts(events: Mapping[Any, Sequence[Any]]) -> set[int]:
    """One run may have been triggered by many events."""
    payloads = [(event.extra or {}).get("payload") for asset in events for event in events[asset]]
    return {int(d) for payload in payloads if isinstance(payload, Mapping) for d in payload.get("doubts", ())}


def _asked_for(ledger: EvidenceLedger, form: Mapping[str, Any]) -> list[int]:
    """What the form names; without a topic, everything that is open and not held by another run."""
    if form.get("topic"):
        if not form.get("group") or form.get("partition") is None:
            raise AirflowFailException("the form needs group, topic and partition together")
        start = int(form.get("start") or 0)
        stop = LAST_OFFSET if form.get("stop") is None else int(form["stop"])
        if not 0 <= start < stop <= LAST_OFFSET:
            raise AirflowFailException(
                f"the form's offsets [{start}, {stop}) hold nothing: stop is exclusive"
            )
        found = ledger.find(form["group"], form["topic"], int(form["partition"]), OffsetRange(start, stop))
        return [facts.doubt_id for facts in found]
    return [facts.doubt_id for facts in ledger.announce(SWEEP_AT_MOST, 0)]


# -- weigh, check ------------------------------------------------------------------------------------------------------


def weigh_doubts(doubts: Sequence[int], ti: Any = None) -> list[int]:
    """Write what the ledger's facts decide; returns the ids that need a check or a person. (Airflow gives `ti`.)"""
    with evidence_ledger() as ledger:
        examined = evidence.examine(ledger, doubts)
    _report(examined, ti)
    return [facts.doubt_id for facts in (*examined.to_check, *examined.to_ask)]


def check_doubts(doubts: Sequence[int], ti: Any = None) -> list[Case]:
    """Ask the users' checks and write what they decide; returns the cases that only a person can decide."""
    with evidence_ledger() as ledger:
        examined = evidence.examine(ledger, doubts, resolve)
        grouped = cases(examined.to_ask)
        # Too many questions at once help nobody: the rest is announced again, and asked when these are answered.
        ledger.hold({f.doubt_id: f.version for case in grouped[CASES_AT_MOST:] for f in case}, 0)
    _report(examined, ti)
    return [
        {
            "doubts": [[facts.doubt_id, facts.version] for facts in case],
            "evidence": examined.evidence[case[0].doubt_id],
        }
        for case in grouped[:CASES_AT_MOST]
    ]


def _report(examined: evidence.Examined, ti: Any) -> None:
    """What failed is kept beside the result: the others go on, and the run fails at its end."""
    if examined.failed and ti is not None:
        ti.xcom_push(key=FAILED, value={str(doubt_id): why for doubt_id, why in examined.failed.items()})
    log.info(
        "%d decided, %d were decided or changed by somebody else, %d wait, %d need a check, %d need a person",
        len(examined.decided),
        len(examined.no_op),
        len(examined.waiting),
        len(examined.to_check),
        len(examined.to_ask),
    )
    for doubt_id, why in examined.failed.items():
        log.error("doubt %d could not be judged and stays open: %s", doubt_id, why)


# -- ask, settle -------------------------------------------------------------------------------------------------------


class AskPerson(HITLOperator):
    """Ask a person about one case. The question is composed when it is asked, from the ledger, so that nothing of a record
    passes through XCom. Nobody answers in time: the case stays open, and `settle` says so."""

    note = Param(
        None, type=["null", "string"], title="Note", description="Is kept with the ruling", source="task"
    )
    """Give it in `params`: Airflow passes those to a mapped task's constructor itself."""
    template_fields: Sequence[str] = ()  # what is shown holds keys and errors of users: never a template

    def __init__(self, *, case: Case, **kwargs: Any) -> None:
        super().__init__(
            subject="Did the effect happen?", options=[ruling.value for ruling in Ruling], **kwargs
        )
        self.case = case

    def execute(self, context: Any) -> Any:
        asked = dict(self.case["doubts"])
        hold_s = (
            self.response_timeout.total_seconds()
            if self.response_timeout
            else timedelta(days=7).total_seconds()
        )
        with evidence_ledger() as ledger:
            open_now = [
                f for f in ledger.facts_of(list(asked)) if asked[f.doubt_id] == f.version and _undecided(f)
            ]
            if not open_now:
                log.info("the case was settled, or has changed, since it was found: nothing to ask")
                return {"doubts": [], "option": None}
            self.subject = subject_of(open_now)
            self.body = body_of(open_now, self.case["evidence"], _keys(ledger, open_now))
            # Only what was found open in the version that is asked about: whatever changed is announced anew.
            ledger.hold({f.doubt_id: f.version for f in open_now}, hold_s)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        if event.get("error_type") == "timeout":
            return {"doubts": self.case["doubts"], "option": None}
        answer = super().execute_complete(context, event)
        user = answer.get("responded_by_user") or {}
        return {
            "doubts": self.case["doubts"],
            "option": answer["chosen_options"][0],
            "person": user.get("name") or user.get("id") or "a person",
            "note": (answer.get("params_input") or {}).get("note") or "",
        }


def settle_rulings(
    asked: Sequence[Case] | None,
    answers: Iterable[Mapping[str, Any] | None],
    failed: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write the rulings. A case without one stays open and is announced again; then the run fails, so that whoever is told
    about failed runs hears of it. A time-out never redoes (S7)."""
    if asked is None:
        raise AirflowFailException("the cases are not known, because an earlier task failed: clear that")
    given = [answer for answer in answers if answer]
    rulings = [
        evidence.Ruled(
            doubt_id=doubt_id,
            version=version,
            ruling=Ruling(answer["option"]),
            person=answer["person"],
            note=answer["note"],
        )
        for answer in given
        if answer["option"]
        for doubt_id, version in answer["doubts"]
    ]
    over = sum(1 for answer in given if not answer["doubts"])
    unanswered = {d: version for answer in given if not answer["option"] for d, version in answer["doubts"]}
    with evidence_ledger() as ledger:
        examined = evidence.settle(ledger, rulings)
        ledger.hold(unanswered, 0)
    _report(examined, None)
    missing = len(asked) - over - sum(1 for answer in given if answer["option"])
    if missing:
        raise AirflowFailException(
            f"{missing} of {len(asked)} cases have no answer: they stay open and are asked again"
        )
    failed = {**(failed or {}), **{str(doubt_id): why for doubt_id, why in examined.failed.items()}}
    if failed:
        said = "; ".join(f"doubt {doubt_id}: {why}" for doubt_id, why in list(failed.items())[:RECORDS_SHOWN])
        raise AirflowFailException(
            f"{len(failed)} doubts could not be judged, stay open and are announced again: {said}"
        )
    return {"settled": len(examined.decided), "no_ops": len(examined.no_op)}


# -- the question ------------------------------------------------------------------------------------------------------

WHY = {
    DoubtKind.VOTE: "It had been seen before.",
    DoubtKind.COLLISION: "Another process held it.",
    DoubtKind.WINDOW: "The process that ran it ended without saying whether it had finished.",
    DoubtKind.RAISED: "The function raised, and nobody can say whether before or after its effect.",
}


def _undecided(facts: DoubtFacts) -> bool:
    return isinstance(weigh(facts), AskCheck | Undecidable)


def _keys(ledger: EvidenceLedger, doubts: Sequence[DoubtFacts]) -> list[tuple[int, str]]:
    """Offset and key of the records, the first ones only."""
    shown: list[tuple[int, str]] = []
    for facts in doubts:
        shown += [(raw.offset, _readable(raw.key)) for raw in ledger.payload(facts.doubt_id)]
        if len(shown) >= RECORDS_SHOWN:
            break
    return shown[:RECORDS_SHOWN]


def _readable(key: bytes | None) -> str:
    if key is None:
        return "none"
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    return _quoted(text if text and text.isprintable() else f"0x{key.hex()}", KEY_CHARACTERS)


def _quoted(text: str, at_most: int = TEXT_CHARACTERS) -> str:
    """In one line and in code quotes, so that it cannot be taken for Markdown."""
    line = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{line if len(line) <= at_most else line[:at_most] + '…'}`"


def subject_of(doubts: Sequence[DoubtFacts]) -> str:
    first, count = doubts[0], len(doubts)
    where = f"{first.partition} offset {first.range.start}" + (f" and {count - 1} more" if count > 1 else "")
    return f"Did the effect happen? {where} ({first.group_id})"


def body_of(doubts: Sequence[DoubtFacts], said: Mapping[str, Any], keys: Sequence[tuple[int, str]]) -> str:
    """Markdown: what is in question, why, what the evidence is, and what each answer does."""
    first = doubts[0]
    offsets = ", ".join(str(f.range) if f.unit else str(f.range.start) for f in doubts[:RECORDS_SHOWN])
    more = f" and {len(doubts) - RECORDS_SHOWN} more" if len(doubts) > RECORDS_SHOWN else ""
    lines = [
        f"**Topic** {first.partition.topic}, **partition** {first.partition.number}, **offsets** {offsets}{more}",
        f"**Group** {first.group_id}, **process** {first.slot or 'unknown'} (incarnation {first.incarnation or 0})",
        f"**Why** {WHY[first.kind]}" + (f" {_quoted(first.reason)}" if first.reason else ""),
        "**Evidence** " + "; ".join(f"{name}: {_quoted(str(value))}" for name, value in said.items()),
        "| offset | key |\n|---|---|\n" + "\n".join(f"| {offset} | {key} |" for offset, key in keys),
        (
            f"*{Ruling.HAPPENED.value}*: nothing runs, the record is settled. *{Ruling.REDO.value}*: a member runs it once "
            f"more. *{Ruling.DEAD_LETTER.value}*: nothing runs, the record is kept among the dead letters."
        ),
    ]
    return "\n\n".join(lines)
