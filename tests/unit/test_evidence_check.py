"""The evidence check as functions over a ledger: what it writes, what it asks, and that doing it twice changes nothing."""

import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from doubts import CHECK, NO_CHECK, JustDoubts, collision, raised, raw, vote, window

from airflow_kafka_exactly.errors import UnknownFunction
from airflow_kafka_exactly.protocol.claims import CheckReference, DoubtFacts, DoubtState, Verdict
from airflow_kafka_exactly.protocol.evidence import Ruling
from airflow_kafka_exactly.protocol.record import OffsetRange, Record
from airflow_kafka_exactly.runtime.evidence import Ruled, examine, settle, waits


def answering(answer: object) -> Any:
    """Resolves to a check that gives this answer, or raises it."""

    def check(*args: object, **kwargs: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return lambda _: check


def numbered(*doubts: DoubtFacts) -> list[DoubtFacts]:
    return [replace(f, doubt_id=n, range=OffsetRange(n, n + 1)) for n, f in enumerate(doubts, 1)]


def test_what_the_ledger_decides_is_written_and_the_rest_is_sorted() -> None:
    ledger = JustDoubts(
        *numbered(
            vote(), collision(settled_elsewhere=True), collision(claim_id=1), window(), raised(check=NO_CHECK)
        )
    )
    examined = examine(ledger, [1, 2, 3, 4, 5, 99])
    assert [(d.doubt_id, d.verdict, d.by) for d in ledger.decisions] == [
        (1, Verdict.NOT_APPLIED, "ledger"),
        (2, Verdict.APPLIED, "ledger"),
    ]
    assert examined.decided == [1, 2]
    assert set(examined.waiting) == {3}
    assert [f.doubt_id for f in examined.to_check] == [4]
    assert [f.doubt_id for f in examined.to_ask] == [5]
    assert examined.no_op == [99]


@pytest.mark.parametrize(("answer", "state"), [(True, DoubtState.CLOSED), (False, DoubtState.RELEASED)])
@pytest.mark.parametrize("kind", [window, raised])
def test_the_checks_answer_decides(kind: Any, answer: bool, state: DoubtState) -> None:
    ledger = JustDoubts(kind())
    assert examine(ledger, [7], answering(answer)).decided == [7]
    assert ledger.doubts[7].state is state
    assert ledger.decisions[0].evidence["answer"] == ("yes" if answer else "no")


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (None, "cannot_tell"),
        (RuntimeError("bank is closed"), "RuntimeError: bank is closed"),
        ("maybe", "TypeError: the check returned str; it must answer True, False or None"),
    ],
)
def test_s7_a_check_that_cannot_tell_or_raises_decides_nothing(answer: object, evidence: str) -> None:
    ledger = JustDoubts(window())
    examined = examine(ledger, [7], answering(answer))
    assert [f.doubt_id for f in examined.to_ask] == [7]
    assert evidence in examined.evidence[7].values()
    assert not ledger.decisions


def test_s7_a_check_that_cannot_be_found_decides_nothing() -> None:
    def resolve(reference: CheckReference) -> Any:
        raise UnknownFunction("there is no module 'payments'")

    ledger = JustDoubts(window())
    examined = examine(ledger, [7], resolve)
    assert "UnknownFunction: there is no module 'payments'" in examined.evidence[7].values()
    assert not ledger.decisions


def test_s7_a_doubt_that_changed_while_its_check_ran_is_not_decided_by_it() -> None:
    """The ABA of two evidence runs: the record was released, run and raised again while a slow check looked at its past."""
    ledger = JustDoubts(window())

    def resolve(reference: CheckReference) -> Any:
        def check(record: Record) -> bool:
            ledger.change(7, state=DoubtState.RELEASED)
            ledger.change(7, state=DoubtState.OPEN)
            return False

        return check

    assert examine(ledger, [7], resolve).no_op == [7]
    assert not ledger.decisions


def test_two_runs_at_once_decide_once() -> None:
    ledger = JustDoubts(*numbered(*[window()] * 20))
    together, results = threading.Barrier(2), list[Any]()

    def resolve(reference: CheckReference) -> Any:
        return lambda _: False

    def run() -> None:
        together.wait(10)
        results.append(examine(ledger, range(1, 21), resolve))

    runs = [threading.Thread(target=run) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join(10)
    assert sorted(d.doubt_id for d in ledger.decisions) == list(range(1, 21))
    assert sorted(results[0].decided + results[1].decided) == list(range(1, 21))
    assert sorted(results[0].no_op + results[1].no_op) == list(range(1, 21))


def test_a_check_that_exits_cannot_tell() -> None:
    """Its evidence task goes on with the other doubts."""
    ledger = JustDoubts(*numbered(window(), window()))
    decided = examine(ledger, [1, 2], lambda _: lambda _record: sys.exit(3))
    assert not decided.decided
    assert not ledger.decisions


def test_a_check_gets_the_record_as_it_is_and_its_arguments() -> None:
    seen: list[Any] = []
    ledger = JustDoubts(window(check=replace(CHECK, args=(1, "two"), kwargs={"three": 3})))
    examine(ledger, [7], lambda _: lambda *args, **kwargs: seen.append((args, kwargs)))
    (record, *args), kwargs = seen[0]
    assert isinstance(record, Record)
    assert (record.topic, record.partition, record.offset) == ("payments", 3, 10)
    assert (record.key, record.value, record.record_id) == (b"key", b"value", "c/topic-id/3/10/0")
    assert (args, kwargs) == ([1, "two"], {"three": 3})


def test_a_batch_check_is_asked_once_about_the_whole_unit() -> None:
    seen: list[Any] = []
    ledger = JustDoubts(window(unit=True, range=OffsetRange(10, 13), check=replace(CHECK, batch=True)))
    ledger.payloads[7] = [raw(10), raw(11), raw(12)]

    def check(records: list[Record]) -> bool:
        seen.append([record.offset for record in records])
        return True

    assert examine(ledger, [7], lambda _: check).decided == [7]
    assert seen == [[10, 11, 12]]


def test_s7_records_of_one_doubt_with_different_answers_decide_nothing() -> None:
    ledger = JustDoubts(window(range=OffsetRange(10, 12)))
    ledger.payloads[7] = [raw(10), raw(11)]
    examined = examine(ledger, [7], lambda _: lambda record: record.offset == 10)
    assert [f.doubt_id for f in examined.to_ask] == [7]


def test_a_doubt_without_any_record_is_not_asked_about() -> None:
    ledger = JustDoubts(window())
    ledger.payloads[7] = []
    examined = examine(ledger, [7], answering(False))
    assert [f.doubt_id for f in examined.to_ask] == [7]


def test_waiting_doubts_say_why_and_nothing_is_decided_by_looking() -> None:
    ledger = JustDoubts(*numbered(vote(), collision(claim_id=4, claim_started=True), window(lease_left_s=3)))
    waiting = waits(ledger, [1, 2, 3])
    assert set(waiting) == {2, 3}
    assert "may be running it (claim 4)" in waiting[2].why
    assert waiting[3].for_s == 13
    assert not ledger.decisions


# -- rulings -----------------------------------------------------------------------------------------------------------


def ruled(ruling: Ruling, version: int = 2) -> Ruled:
    return Ruled(doubt_id=7, version=version, ruling=ruling, person="Ada", note="I called the bank")


@pytest.mark.parametrize(
    ("ruling", "verdict", "dead_letter"),
    [
        (Ruling.HAPPENED, Verdict.APPLIED, False),
        (Ruling.REDO, Verdict.NOT_APPLIED, False),
        (Ruling.DEAD_LETTER, Verdict.UNKNOWN, True),
    ],
)
def test_a_ruling_is_written_with_the_persons_name_and_note(
    ruling: Ruling, verdict: Verdict, dead_letter: bool
) -> None:
    ledger = JustDoubts(raised(check=NO_CHECK))
    assert settle(ledger, [ruled(ruling)]).decided == [7]
    (decision,) = ledger.decisions
    assert (decision.verdict, decision.dead_letter, decision.by) == (verdict, dead_letter, "Ada")
    assert decision.evidence["note"] == "I called the bank"


def test_a_ruling_given_twice_changes_nothing_the_second_time() -> None:
    ledger = JustDoubts(raised())
    settle(ledger, [ruled(Ruling.REDO)])
    again = settle(ledger, [ruled(Ruling.REDO), ruled(Ruling.HAPPENED)])
    assert (again.decided, again.no_op) == ([], [7, 7])
    assert len(ledger.decisions) == 1


def test_a_late_person_does_not_judge_what_has_changed_since() -> None:
    ledger = JustDoubts(raised())
    ledger.change(7, reason="it was run once more, and raised again")
    assert settle(ledger, [ruled(Ruling.HAPPENED)]).no_op == [7]
    assert not ledger.decisions


def test_a_ruling_about_a_doubt_that_is_gone_is_a_no_op() -> None:
    assert settle(JustDoubts(), [ruled(Ruling.REDO)]).no_op == [7]
