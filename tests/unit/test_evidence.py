"""The table of section 6, row by row, and the stories behind it (F1 of the protocol's model)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from doubts import CHECK, NO_CHECK, collision, raised, vote, window

from airflow_kafka_exactly.protocol.claims import DoubtFacts, DoubtState, Verdict
from airflow_kafka_exactly.protocol.evidence import (
    Answer,
    AskCheck,
    AskPerson,
    Decided,
    Over,
    Ruling,
    Wait,
    cases,
    decision,
    rule,
    weigh,
)
from airflow_kafka_exactly.protocol.record import OffsetRange

RELEASED, DISCARDED = Verdict.NOT_APPLIED, Verdict.APPLIED

ROWS = [
    ("in no claim", vote(), Answer.NOT_ASKED, (RELEASED, "ledger")),
    ("given back", collision(), Answer.NOT_ASKED, (RELEASED, "ledger")),
    ("applied", vote(settled_elsewhere=True), Answer.NOT_ASKED, (DISCARDED, "ledger")),
    ("below the window", collision(settled_elsewhere=True), Answer.NOT_ASKED, (DISCARDED, "ledger")),
    ("a live life is about to run it", collision(claim_id=5, lease_left_s=9.0), Answer.NOT_ASKED, Wait),
    (
        "a live life runs it",
        collision(claim_id=5, claim_started=True, lease_left_s=9.0),
        Answer.NOT_ASKED,
        Wait,
    ),
    (
        "the life is silent and not fenced yet",
        collision(claim_id=5, since_lease_end_s=99.0),
        Answer.NOT_ASKED,
        Wait,
    ),
    ("window, lease not over", window(lease_left_s=3.0, since_lease_end_s=0.0), Answer.NOT_ASKED, Wait),
    (
        "window, lease not over, check said no",
        window(lease_left_s=3.0, since_lease_end_s=0.0),
        Answer.NO,
        Wait,
    ),
    ("window, effect may be under way", window(since_lease_end_s=9.9), Answer.NO, Wait),
    ("window, no payload yet", window(durable=False), Answer.NOT_ASKED, Wait),
    ("window, passed", window(durable=False, passed=True), Answer.NOT_ASKED, AskPerson),
    ("raised, passed", raised(durable=False, passed=True), Answer.NOT_ASKED, AskPerson),
    (
        "window, passed, lease not over",
        window(durable=False, passed=True, lease_left_s=3.0),
        Answer.NOT_ASKED,
        Wait,
    ),
    (
        "window, passed, may be lost",
        window(durable=False, passed=True, check=replace(CHECK, on_undecidable="discard")),
        Answer.NOT_ASKED,
        (DISCARDED, "policy"),
    ),
    (
        "window, passed, never a redo without a record",
        window(durable=False, passed=True, check=replace(CHECK, on_undecidable="redo")),
        Answer.NOT_ASKED,
        AskPerson,
    ),
    ("window, unread for a night", window(durable=False, unread=True, age_s=4e4), Answer.NOT_ASKED, Wait),
    ("window, unread for days", window(durable=False, unread=True, age_s=1e5), Answer.NOT_ASKED, AskPerson),
    ("window, ripe", window(), Answer.NOT_ASKED, AskCheck),
    ("window, check says yes", window(), Answer.YES, (DISCARDED, "check")),
    ("window, check says no", window(), Answer.NO, (RELEASED, "check")),
    ("window, check cannot tell", window(), Answer.CANNOT_TELL, AskPerson),
    ("window, no check", window(check=NO_CHECK), Answer.NOT_ASKED, AskPerson),
    ("window, no check, lease not over", window(check=NO_CHECK, lease_left_s=1.0), Answer.NOT_ASKED, Wait),
    ("raised, too early", raised(age_s=9.0), Answer.NO, Wait),
    ("raised, life alive", raised(lease_left_s=9.0, since_lease_end_s=0.0), Answer.NOT_ASKED, AskCheck),
    ("raised, check says yes", raised(), Answer.YES, (DISCARDED, "check")),
    ("raised, check says no", raised(), Answer.NO, (RELEASED, "check")),
    ("raised, check cannot tell", raised(), Answer.CANNOT_TELL, AskPerson),
    ("raised, no check", raised(check=NO_CHECK), Answer.NOT_ASKED, AskPerson),
    ("released", vote(state=DoubtState.RELEASED), Answer.NOT_ASKED, Over),
    ("claimed", window(state=DoubtState.CLAIMED), Answer.YES, Over),
    ("closed", raised(state=DoubtState.CLOSED), Answer.NO, Over),
]


@pytest.mark.parametrize(("facts", "answer", "expected"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_row_of_the_evidence_table(facts: DoubtFacts, answer: Answer, expected: Any) -> None:
    judgement = weigh(facts, answer)
    if isinstance(expected, tuple):
        assert isinstance(judgement, Decided)
        assert (judgement.verdict, judgement.by) == expected
    else:
        assert isinstance(judgement, expected)


def test_f1_a_raised_doubt_is_not_released_because_it_is_in_no_claim() -> None:
    """Its record was cut out of its claim; the function may have raised *after* its effect."""
    assert isinstance(weigh(raised(claim_id=None)), AskCheck)


def test_f1_a_raised_doubt_is_not_discarded_because_a_mark_covers_it() -> None:
    """It lies below the marks of the records that ran after it; the function may have raised *before* its effect."""
    assert isinstance(weigh(raised(settled_elsewhere=True)), AskCheck)


def test_f1_a_window_that_was_reopened_is_not_decided_by_the_frontier() -> None:
    """The frontier passes durable doubts, so being below it proves nothing about one."""
    assert isinstance(weigh(window(settled_elsewhere=True)), AskCheck)


@pytest.mark.parametrize(
    ("facts", "for_s"),
    [
        (window(lease_left_s=3.0, since_lease_end_s=0.0), 13.0),
        (window(since_lease_end_s=4.0), 6.0),
        (raised(age_s=1.0), 9.0),
        (collision(claim_id=1), None),
        (window(durable=False), None),
    ],
)
def test_a_wait_says_for_how_long_when_a_clock_knows(facts: DoubtFacts, for_s: float | None) -> None:
    judgement = weigh(facts)
    assert isinstance(judgement, Wait)
    assert judgement.for_s == for_s


@pytest.mark.parametrize(
    ("policy", "verdict", "dead_letter"),
    [
        ("redo", Verdict.NOT_APPLIED, False),
        ("discard", Verdict.APPLIED, False),
        ("dead_letter", Verdict.UNKNOWN, True),
    ],
)
@pytest.mark.parametrize("facts", [window(), raised()])
def test_s7_the_policy_in_writing_decides_what_is_undecidable(
    facts: DoubtFacts, policy: str, verdict: Verdict, dead_letter: bool
) -> None:
    facts = replace(facts, check=replace(CHECK, on_undecidable=policy))
    assert isinstance(weigh(facts), AskCheck)
    judgement = weigh(facts, Answer.CANNOT_TELL)
    assert isinstance(judgement, Decided)
    assert (judgement.verdict, judgement.by, judgement.dead_letter) == (verdict, "policy", dead_letter)


def test_a_policy_that_nobody_knows_asks_a_person() -> None:
    assert isinstance(weigh(window(check=replace(NO_CHECK, on_undecidable="guess"))), AskPerson)


def test_a_verdict_is_bound_to_the_version_that_was_judged() -> None:
    facts = window(version=9)
    judgement = weigh(facts, Answer.NO)
    assert isinstance(judgement, Decided)
    bound = decision(facts, judgement, {"answer": "no"})
    assert (bound.doubt_id, bound.version, bound.verdict, bound.by) == (7, 9, Verdict.NOT_APPLIED, "check")
    assert bound.evidence["answer"] == "no"


def test_s7_unknown_is_no_verdict() -> None:
    with pytest.raises(AssertionError, match="S7"):
        decision(window(), Decided(Verdict.UNKNOWN, "me", "a guess"), {})


@pytest.mark.parametrize(
    ("ruling", "verdict", "dead_letter"),
    [
        (Ruling.HAPPENED, Verdict.APPLIED, False),
        (Ruling.REDO, Verdict.NOT_APPLIED, False),
        (Ruling.DEAD_LETTER, Verdict.UNKNOWN, True),
    ],
)
def test_a_ruling_carries_the_persons_name(ruling: Ruling, verdict: Verdict, dead_letter: bool) -> None:
    decided = rule(ruling, "Ada", window())
    assert (decided.verdict, decided.by, decided.dead_letter) == (verdict, "Ada", dead_letter)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (True, Answer.YES),
        (False, Answer.NO),
        (None, Answer.CANNOT_TELL),
        (np.True_, Answer.YES),
        (np.False_, Answer.NO),
    ],
)
def test_what_a_check_may_answer(value: object, answer: Answer) -> None:
    assert Answer.of(value) is answer


@pytest.mark.parametrize("value", [1, 0, "yes", [], object()])
def test_s7_a_check_that_answers_something_else_has_proved_nothing(value: object) -> None:
    with pytest.raises(TypeError, match="must answer True, False or None"):
        Answer.of(value)


def test_doubts_with_one_cause_are_one_case() -> None:
    one = [window(doubt_id=n, range=OffsetRange(n, n + 1)) for n in (3, 1, 2)]
    other_life = window(doubt_id=4, incarnation=5)
    other_reason = raised(doubt_id=5, reason="ValueError: x")
    grouped = cases([*one, other_life, other_reason])
    assert [[f.doubt_id for f in case] for case in grouped] == [[1, 2, 3], [4], [5]]
