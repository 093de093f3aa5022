"""S7: from any facts, what is unknown is never released, discarded or dead-lettered without a check, a ruling or a policy."""

from hypothesis import given
from hypothesis import strategies as st

from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    DoubtFacts,
    DoubtKind,
    DoubtState,
    Verdict,
)
from airflow_kafka_exactly.protocol.evidence import Answer, AskCheck, AskPerson, Decided, Wait, weigh
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

SECONDS = st.floats(min_value=-5, max_value=100)

any_doubt = st.builds(
    DoubtFacts,
    doubt_id=st.just(1),
    version=st.just(1),
    group_id=st.just("g"),
    cluster_id=st.just("c"),
    partition=st.just(Partition("id", 0, "t")),
    range=st.just(OffsetRange(0, 1)),
    unit=st.booleans(),
    kind=st.sampled_from(DoubtKind),
    state=st.sampled_from(DoubtState),
    durable=st.booleans(),
    slot=st.none() | st.just("slot"),
    incarnation=st.none() | st.just(1),
    settled_elsewhere=st.booleans(),
    claim_id=st.none() | st.just(1),
    claim_started=st.booleans(),
    lease_left_s=SECONDS,
    since_lease_end_s=SECONDS,
    age_s=SECONDS,
    check=st.builds(
        CheckReference,
        path=st.sampled_from(["", "module:check"]),
        on_undecidable=st.sampled_from(["person", "redo", "discard", "dead_letter", "", "nonsense"]),
        effect_timeout_s=st.floats(min_value=0, max_value=60),
    ),
    reason=st.just(""),
)
POLICIES = {"redo", "discard", "dead_letter"}


@given(any_doubt, st.sampled_from(Answer))
def test_s7_every_verdict_has_a_reason_that_may_decide(facts: DoubtFacts, answer: Answer) -> None:
    judgement = weigh(facts, answer)
    if not isinstance(judgement, Decided):
        return
    assert facts.state is DoubtState.OPEN
    match judgement.by:
        case "ledger":
            assert facts.kind in (DoubtKind.VOTE, DoubtKind.COLLISION)
            if judgement.verdict is Verdict.APPLIED:
                assert facts.settled_elsewhere
            else:
                assert facts.claim_id is None
                assert not facts.settled_elsewhere
            assert not judgement.dead_letter
        case "check":
            assert facts.check.path
            assert answer in (Answer.YES, Answer.NO)
            assert judgement.verdict is (Verdict.APPLIED if answer is Answer.YES else Verdict.NOT_APPLIED)
            assert not judgement.dead_letter
        case "policy":
            assert facts.check.on_undecidable in POLICIES
            no_check_can_tell = not facts.durable and (
                facts.passed or facts.unread
            )  # nobody has the record to ask about
            assert answer is Answer.CANNOT_TELL or not facts.check.path or no_check_can_tell
        case other:
            raise AssertionError(f"S7: {other!r} decides nothing by itself")


@given(any_doubt, st.sampled_from(Answer))
def test_s7_nothing_is_asked_or_decided_about_a_window_before_its_life_has_surely_stopped(
    facts: DoubtFacts, answer: Answer
) -> None:
    judgement = weigh(facts, answer)
    if facts.kind is DoubtKind.WINDOW and isinstance(judgement, Decided | AskCheck | AskPerson):
        assert facts.lease_left_s <= 0
        assert facts.since_lease_end_s >= facts.check.effect_timeout_s
        assert facts.claim_id is None
    if facts.kind is DoubtKind.RAISED and isinstance(judgement, Decided | AskCheck | AskPerson):
        assert facts.age_s >= facts.check.effect_timeout_s


@given(any_doubt)
def test_the_check_is_asked_only_where_its_answer_decides(facts: DoubtFacts) -> None:
    if isinstance(weigh(facts), AskCheck):
        assert {Verdict.APPLIED, Verdict.NOT_APPLIED} == {
            j.verdict for a in (Answer.YES, Answer.NO) if isinstance(j := weigh(facts, a), Decided)
        }


@given(any_doubt, st.sampled_from(Answer))
def test_a_wait_is_never_in_the_past(facts: DoubtFacts, answer: Answer) -> None:
    judgement = weigh(facts, answer)
    if isinstance(judgement, Wait) and judgement.for_s is not None:
        assert judgement.for_s > 0
