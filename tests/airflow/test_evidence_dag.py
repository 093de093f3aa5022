"""The evidence-check DAG as Airflow sees it, and its tasks on a ledger of a few doubts."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stage
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput, TaskDeferred
from doubts import NO_CHECK, PAYMENTS, JustDoubts, collision, raised, raw, vote, window

from airflow_kafka_exactly import evidence_tasks, triggered
from airflow_kafka_exactly.evidence_dag import DOUBTS, evidence_check_dag
from airflow_kafka_exactly.evidence_tasks import (
    HOLD_S,
    AskPerson,
    GatherDoubts,
    announced_doubts,
    body_of,
    check_doubts,
    settle_rulings,
    subject_of,
    weigh_doubts,
)
from airflow_kafka_exactly.evidence_trigger import EvidenceTrigger
from airflow_kafka_exactly.protocol.claims import DoubtState
from airflow_kafka_exactly.protocol.record import OffsetRange
from airflow_kafka_exactly.runtime.evidence import LOOK_AGAIN_S, NOTHING_CHANGED_S

FORM = dict.fromkeys(("group", "topic", "partition", "start", "stop"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(ledger: JustDoubts) -> JustDoubts:
        @contextmanager
        def opened() -> Iterator[JustDoubts]:
            yield ledger

        monkeypatch.setattr(evidence_tasks, "evidence_ledger", opened)
        return ledger

    return give


# -- the DAG -----------------------------------------------------------------------------------------------------------


def test_the_dag_file_imports_and_has_the_five_tasks_in_a_row() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(Path(__file__).parents[2] / "dags" / "evidence_check.py")
    assert bag.import_errors == {}
    dag = bag.dags["kafka_exactly_evidence_check"]
    assert {t: sorted(dag.get_task(t).downstream_task_ids) for t in dag.task_ids} == {
        "gather": ["weigh"],
        "weigh": ["check"],
        "check": ["ask"],
        "ask": ["settle"],
        "settle": [],
    }


def test_the_dag_is_started_by_announced_doubts_and_watches_them_with_a_coordinator() -> None:
    from airflow_kafka_exactly.triggers import CoordinatorTrigger

    asset = evidence_check_dag().timetable.asset_condition
    assert asset.name == DOUBTS
    assert [type(watcher.trigger) for watcher in asset.watchers] == [CoordinatorTrigger]


def test_the_dag_survives_airflows_serialization() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.from_dict(DagSerialization.to_dict(evidence_check_dag()))
    assert set(again.task_ids) == {"gather", "weigh", "check", "ask", "settle"}


def test_l1_people_who_do_not_answer_hold_up_nobody_else() -> None:
    """Each run with an open question counts as active."""
    assert evidence_check_dag().max_active_runs >= 1000


def test_a_variant_of_the_dag_can_be_made() -> None:
    dag = evidence_check_dag(
        "mine",
        response_timeout=timedelta(hours=1),
        ask={"assigned_users": [{"id": "7", "name": "Ada"}]},
        max_active_runs=1,
        tags=["payments"],
    )
    assert (dag.dag_id, dag.max_active_runs, dag.tags) == ("mine", 1, {"payments"})
    asked = dag.get_task("ask").partial_kwargs
    assert asked["response_timeout"] == timedelta(hours=1)
    assert asked["assigned_users"] == [{"id": "7", "name": "Ada"}]


# -- gather ------------------------------------------------------------------------------------------------------------


def event(*doubts: int) -> Any:
    return SimpleNamespace(extra={"from_trigger": True, "payload": {"doubts": list(doubts), "groups": ["g"]}})


def context(events: Any = None, **form: Any) -> Any:
    return {"triggering_asset_events": events or {}, "params": {**FORM, **form}}


def test_every_event_that_triggered_the_run_is_gathered() -> None:
    events = {"asset": [event(1, 2), event(2, 3), SimpleNamespace(extra=None)], "other": [event(9)]}
    assert announced_doubts(events) == {1, 2, 3, 9}


def test_ripe_doubts_are_gathered_at_once_and_held(use: Any) -> None:
    ledger = use(JustDoubts(vote(doubt_id=1), window(doubt_id=2)))
    assert GatherDoubts(task_id="g").execute(context({"asset": [event(2, 1)]})) == [1, 2]
    assert set(ledger.held) == {1, 2}


def test_doubts_that_wait_are_waited_for_in_the_triggerer(use: Any) -> None:
    ledger = use(JustDoubts(window(lease_left_s=5.0)))
    with pytest.raises(TaskDeferred) as deferred:
        GatherDoubts(task_id="g", wait_at_most=timedelta(minutes=3)).execute(context({"asset": [event(7)]}))
    assert isinstance(deferred.value.trigger, EvidenceTrigger)
    assert deferred.value.trigger.serialize()[1] == {"doubts": [7], "wait_at_most_s": 180.0}
    assert ledger.held[7] > 180, "it is not announced again while this run waits for it"
    gather = GatherDoubts(task_id="g")
    assert gather.ripened({}, {"doubts": [7], "waiting": {"7": "claim 4 covers it"}}) == []
    assert ledger.held[7] == 15, "left until its lease and the effect's time are over"
    ledger.change(7, lease_left_s=0.0)
    assert gather.ripened({}, {"doubts": [7], "waiting": {}}) == [7]


def test_l1_a_run_goes_on_with_what_is_ripe_and_leaves_the_rest(use: Any) -> None:
    """A doubt whose payload never comes kept every doubt of its run waiting for ten minutes, every twelve minutes."""
    ledger = use(
        JustDoubts(
            window(doubt_id=1),
            window(doubt_id=2, durable=False),
            window(doubt_id=3, lease_left_s=5.0),
            collision(doubt_id=4, claim_id=4),
        )
    )
    assert GatherDoubts(task_id="g").execute(context({"asset": [event(1, 2, 3, 4)]})) == [1]
    assert ledger.held == {1: HOLD_S, 2: NOTHING_CHANGED_S, 3: 15.0, 4: LOOK_AGAIN_S}


def test_l1_nobody_waits_for_what_is_announced_when_it_changes(use: Any) -> None:
    ledger = use(JustDoubts(window(durable=False)))
    assert GatherDoubts(task_id="g").execute(context({"asset": [event(7)]})) == []
    assert ledger.held == {7: NOTHING_CHANGED_S}


def test_a_run_by_hand_finds_the_doubts_of_its_form(use: Any) -> None:
    use(JustDoubts(*[vote(doubt_id=n, range=OffsetRange(n, n + 1)) for n in (10, 11, 12)]))
    gather = GatherDoubts(task_id="g")
    named = {"group": "g", "topic": "payments", "partition": PAYMENTS.number}
    assert gather.execute(context(**named, start=11, stop=12)) == [11]
    assert gather.execute(context(**named, start=11)) == [11, 12]
    assert gather.execute(context(**named)) == [10, 11, 12]


def test_a_run_by_hand_with_an_empty_form_takes_every_open_doubt(use: Any) -> None:
    use(JustDoubts(vote(doubt_id=1), vote(doubt_id=2, state=DoubtState.RELEASED)))
    assert GatherDoubts(task_id="g").execute(context()) == [1]


def test_l1_a_run_takes_up_what_an_event_without_a_run_announced(use: Any) -> None:
    """Airflow gives no run of its own to an event that comes while the run for the one before is being created."""
    use(JustDoubts(vote(doubt_id=1), vote(doubt_id=2)))
    assert GatherDoubts(task_id="g").execute(context({"asset": [event(1)]})) == [1, 2]


@pytest.mark.parametrize(
    "form",
    [
        {"topic": "t"},
        {"topic": "t", "group": "g"},
        {"topic": "t", "group": "g", "partition": 0, "start": 5, "stop": 5},
    ],
)
def test_a_form_that_is_half_filled_in_is_refused(use: Any, form: dict[str, Any]) -> None:
    use(JustDoubts())
    with pytest.raises(AirflowFailException, match="the form"):
        GatherDoubts(task_id="g").execute(context(**form))


# -- the trigger -------------------------------------------------------------------------------------------------------


def test_the_wait_ends_when_the_first_doubt_is_ripe() -> None:
    ledger = JustDoubts(collision(claim_id=4), collision(doubt_id=8, claim_id=5))
    result = list[Any]()
    waiting = threading.Thread(
        target=lambda: result.append(triggered.wait_until_ripe(ledger, [7, 8], 60, threading.Event()))
    )
    waiting.start()
    ledger.change(7, claim_id=None)
    waiting.join(10)
    assert [set(still_waiting) for still_waiting in result] == [{"8"}]


def test_the_wait_ends_after_its_time_and_names_what_still_waits() -> None:
    waiting = triggered.wait_until_ripe(JustDoubts(collision(claim_id=4)), [7], 0, threading.Event())
    assert "claim 4" in waiting["7"]


async def test_the_trigger_yields_one_event_and_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def shared(settings: object) -> Iterator[Any]:
        yield SimpleNamespace(evidence=JustDoubts(vote(doubt_id=1)))

    monkeypatch.setattr(triggered.wiring, "shared_ledger", shared)
    monkeypatch.setattr(triggered.hooks, "ledger_settings", lambda: None)
    events = [event.payload async for event in EvidenceTrigger([1], 5.0).run()]
    assert events == [{"doubts": [1], "waiting": {}}]


async def test_case_21_the_trigger_reports_a_wrong_setting_instead_of_dying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage.define(monkeypatch, {stage.LEDGER: {"conn_type": "postgres", "host": "127.0.0.1"}})
    (event,) = [event.payload async for event in EvidenceTrigger([1], 5.0).run()]
    assert event["final"] is True
    assert "field 'schema'" in event["error"]
    with pytest.raises(AirflowFailException, match="field 'schema'"):
        GatherDoubts(task_id="g").ripened({}, event)


def test_a_cancelled_trigger_ends_its_thread() -> None:
    trigger = EvidenceTrigger([7], 3600)
    ledger, done = JustDoubts(collision(claim_id=4)), threading.Event()

    def serve() -> None:
        triggered.wait_until_ripe(ledger, [7], 3600, trigger._stop)
        done.set()

    threading.Thread(target=serve, daemon=True).start()
    asyncio.run(trigger.cleanup())
    assert done.wait(5)


# -- weigh, check, ask, settle -----------------------------------------------------------------------------------------


def test_only_what_nobody_can_decide_becomes_a_case(use: Any) -> None:
    ledger = use(
        JustDoubts(
            vote(doubt_id=1),
            window(doubt_id=2, check=NO_CHECK),
            window(doubt_id=3, check=NO_CHECK),
            raised(doubt_id=4, check=NO_CHECK, reason="ValueError: no"),
            collision(doubt_id=5, claim_id=9),
        )
    )
    to_check = weigh_doubts([1, 2, 3, 4, 5])
    assert to_check == [2, 3, 4]
    assert [case["doubts"] for case in check_doubts(to_check)] == [[[2, 2], [3, 2]], [[4, 2]]]
    assert [d.doubt_id for d in ledger.decisions] == [1]


def test_a_check_that_raises_becomes_evidence_for_the_person(use: Any) -> None:
    use(JustDoubts(window()))  # its check is in a module that does not exist
    (case,) = check_doubts([7])
    assert "there is no module 'payments'" in case["evidence"]["error"]


def ask_about(case: Any, **options: Any) -> AskPerson:
    return AskPerson(task_id="ask", case=case, params={"note": AskPerson.note}, **options)


def case_of(*doubts: list[int]) -> Any:
    return {"doubts": list(doubts), "evidence": {"why": "there is no check"}}


def test_the_question_says_what_is_in_question_and_holds_the_case_back(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dict[str, Any]()
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **kw: asked.update(kw)
    )
    ledger = use(JustDoubts(window(check=NO_CHECK)))
    with pytest.raises(TaskAwaitingInput):
        ask_about(case_of([7, 2]), response_timeout=timedelta(hours=1)).execute(
            {"task_instance": SimpleNamespace(id="ti")}
        )
    assert asked["subject"] == "Did the effect happen? payments[3] offset 10 (g)"
    assert asked["options"] == ["It happened", "It did not happen: run it again", "Dead letter"]
    assert "there is no check" in asked["body"]
    assert ledger.held[7] == 3600


@pytest.mark.parametrize("now", [window(state=DoubtState.CLOSED), window(version=3), window(claim_id=4)])
def test_a_case_that_was_settled_or_changed_meanwhile_is_not_asked(use: Any, now: Any) -> None:
    use(JustDoubts(now))
    assert ask_about(case_of([7, 2])).execute({}) == {"doubts": [], "option": None}


def answer(option: str = "It happened", case: Any = None) -> Any:
    event = {
        "chosen_options": [option],
        "params_input": {"note": "I called"},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": "1", "name": "Ada"},
    }
    return ask_about(case or case_of([7, 2])).execute_complete({}, event)


def test_a_persons_answer_is_settled_with_their_name(use: Any) -> None:
    ledger = use(JustDoubts(window()))
    assert settle_rulings([case_of([7, 2])], [answer()]) == {"settled": 1, "no_ops": 0}
    (decision,) = ledger.decisions
    assert decision.by == "Ada"
    assert decision.evidence["note"] == "I called"
    assert settle_rulings([case_of([7, 2])], [answer("Dead letter")]) == {"settled": 0, "no_ops": 1}


def test_s7_a_question_that_nobody_answers_escalates_and_never_redoes(use: Any) -> None:
    ledger = use(JustDoubts(window(doubt_id=7), window(doubt_id=8)))
    silent = ask_about(case_of([8, 2])).execute_complete({}, {"error": "too late", "error_type": "timeout"})
    with pytest.raises(AirflowFailException, match="1 of 2 cases have no answer"):
        settle_rulings([case_of([7, 2]), case_of([8, 2])], [answer(), silent])
    assert [d.doubt_id for d in ledger.decisions] == [7], "what was answered is settled"
    assert ledger.doubts[8].state is DoubtState.OPEN
    assert ledger.held[8] == 0, "it is announced again"


def test_a_question_that_failed_leaves_its_case_open(use: Any) -> None:
    use(JustDoubts(window()))
    with pytest.raises(AirflowFailException, match="1 of 1 cases"):
        settle_rulings([case_of([7, 2])], [None])


def test_doubts_that_could_not_be_judged_fail_the_run_at_its_end_and_strand_no_neighbour(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = use(JustDoubts(vote(doubt_id=7), vote(doubt_id=8)))
    decide = ledger.decide

    def poisoned(decision: Any) -> bool:
        if decision.doubt_id == 7:
            raise ValueError("an odd text")
        return bool(decide(decision))

    monkeypatch.setattr(ledger, "decide", poisoned)
    kept: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: kept.update({key: value}))
    assert weigh_doubts([7, 8], ti=ti) == []
    assert [d.doubt_id for d in ledger.decisions] == [8]
    with pytest.raises(
        AirflowFailException, match=r"1 doubts could not be judged.*doubt 7: ValueError: an odd text"
    ):
        settle_rulings([], [], kept[evidence_tasks.FAILED])


def test_nothing_is_settled_when_an_earlier_task_failed() -> None:
    with pytest.raises(AirflowFailException, match="an earlier task failed"):
        settle_rulings(None, [])


def test_without_any_case_there_is_nothing_to_settle(use: Any) -> None:
    use(JustDoubts())
    assert settle_rulings([], []) == {"settled": 0, "no_ops": 0}
    assert settle_rulings([case_of([7, 2])], [{"doubts": [], "option": None}]) == {"settled": 0, "no_ops": 0}


def test_the_question_cannot_be_broken_by_what_a_record_holds() -> None:
    facts = raised(reason="Boom: `|` {{ conn.secret }}\n# heading")
    body = body_of([facts], {"error": "a|b\nc"}, [(10, "`x`")])
    assert "`Boom: '¦' {{ conn.secret }} # heading`" in body
    assert "a|b" not in body
    assert subject_of([facts, facts]) == "Did the effect happen? payments[3] offset 10 and 1 more (g)"


def test_keys_are_shown_readably(use: Any) -> None:
    ledger = use(JustDoubts(window()))
    ledger.payloads[7] = [
        raw(10, b"order-1"),
        raw(11, None),
        raw(12, b"\xff\x00"),
        raw(13, b"a`b|c"),
        raw(14, b"x" * 500),
    ]
    keys = dict(evidence_tasks._keys(ledger, [ledger.doubts[7]]))
    assert (keys[10], keys[11], keys[12], keys[13]) == ("`order-1`", "none", "`0xff00`", "`a'b¦c`")
    assert len(keys[14]) < 100
