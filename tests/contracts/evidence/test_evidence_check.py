"""The evidence check on both ledgers: whole stories, from a crash to the record's one outcome."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledger_stage import GROUP, MemoryStage, PostgresStage, Stage

from airflow_kafka_exactly.protocol.claims import CheckReference, DoubtKind, DoubtState, Verdict
from airflow_kafka_exactly.protocol.evidence import Ruling
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.evidence import Ruled, examine, settle, waits


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    opened = PostgresStage(request.getfixturevalue("database"))
    yield opened
    opened.ledger.close()


def says(answer: Callable[[Record], bool | None] | bool | None) -> Any:
    return lambda _: answer if callable(answer) else lambda _: answer


def crash_in_a_window(stage: Stage, records: int = 1) -> None:
    """A life ends between the marks; its window is redelivered, so that the payload is there."""
    stage.new_epoch()
    life = stage.life("a")
    claim = stage.claim(life, 0, records)
    stage.mark(life, claim, records, 0)
    stage.die(life)
    stage.doubt(stage.life("b"), 0, records)


def ids(stage: Stage) -> list[int]:
    return [facts.doubt_id for facts in stage.doubts()]


def test_what_ran_before_the_crash_is_discarded_and_what_did_not_is_run_once_more(stage: Stage) -> None:
    crash_in_a_window(stage, 2)
    examined = examine(stage.evidence, ids(stage), says(lambda record: record.offset == 0))
    assert len(examined.decided) == 2
    (left,) = stage.doubts()
    assert (left.range.start, left.state) == (1, DoubtState.RELEASED)
    life = stage.life("b")
    (redo,) = stage.claim_released(life, stage.epoch, 10)
    assert [record.offset for record in redo.records] == [1]
    stage.apply(life, redo.claim)
    assert stage.doubts() == []
    assert stage.frontier() == 2


def test_a_running_claim_is_waited_for_until_its_life_is_fenced(stage: Stage) -> None:
    stage.new_epoch()
    life = stage.life("a")
    claim = stage.claim(life, 0, 1)
    stage.mark(life, claim, 1, 0)
    stage.doubt(stage.life("b"), 0, 1)
    (doubt_id,) = ids(stage)
    assert "may be running it" in waits(stage.evidence, [doubt_id])[doubt_id].why
    assert examine(stage.evidence, [doubt_id], says(False)).waiting
    stage.die(life)
    assert waits(stage.evidence, [doubt_id]) == {}
    assert examine(stage.evidence, [doubt_id]).to_check[0].kind is DoubtKind.WINDOW


def test_a_mark_that_arrives_meanwhile_settles_the_doubt(stage: Stage) -> None:
    stage.new_epoch()
    life = stage.life("a")
    claim = stage.claim(life, 0, 1)
    stage.doubt(stage.life("b"), 0, 1)
    (doubt_id,) = ids(stage)
    stage.apply(life, claim)
    assert examine(stage.evidence, [doubt_id], says(False)).decided == [doubt_id], (
        "the check is not even asked"
    )
    assert stage.doubts() == []


def test_s7_the_checks_no_counts_only_after_the_effect_timeout(stage: Stage) -> None:
    stage.new_epoch()
    life = stage.life("a", check=CheckReference(path="shop.checks:paid", effect_timeout_s=10.0))
    claim = stage.claim(life, 0, 1)
    stage.mark(life, claim, 1, 0)
    stage.die(life)
    stage.doubt(stage.life("b"), 0, 1)
    asked = list[Record]()
    (doubt_id,) = ids(stage)
    examined = examine(stage.evidence, [doubt_id], says(lambda record: bool(asked.append(record))))
    assert 0 < (examined.waiting[doubt_id].for_s or 0) <= 10
    assert not asked
    stage.pass_time(11)
    assert examine(stage.evidence, [doubt_id], says(False)).decided == [doubt_id]


def raise_in(stage: Stage, **check: Any) -> int:
    stage.new_epoch()
    life = stage.life("a", check=CheckReference(effect_timeout_s=0, **check))
    stage.raise_doubt(life, stage.claim(life, 0, 1), 0)
    (doubt_id,) = ids(stage)
    return doubt_id


def ruled(stage: Stage, ruling: Ruling) -> Ruled:
    facts = stage.the_doubt()
    return Ruled(doubt_id=facts.doubt_id, version=facts.version, ruling=ruling, person="Ada")


def test_a_raised_record_without_a_check_is_ruled_by_a_person_once(stage: Stage) -> None:
    doubt_id = raise_in(stage)
    assert [f.doubt_id for f in examine(stage.evidence, [doubt_id], says(True)).to_ask] == [doubt_id]
    ruling = ruled(stage, Ruling.DEAD_LETTER)
    assert settle(stage.evidence, [ruling]).decided == [doubt_id]
    assert settle(stage.evidence, [ruling]).no_op == [doubt_id]
    (row,) = stage.report.doubts(GROUP, False)
    assert (row["outcome"], row["decided_by"]) == ("dead_letter", "Ada")
    (letter,) = stage.report.dead_letters(GROUP)
    assert letter["offset"] == 0


@pytest.mark.parametrize(
    ("policy", "outcome"), [("redo", None), ("discard", "discarded"), ("dead_letter", "dead_letter")]
)
def test_s7_the_policy_in_writing_needs_no_person(stage: Stage, policy: str, outcome: str | None) -> None:
    doubt_id = raise_in(stage, on_undecidable=policy)
    assert examine(stage.evidence, [doubt_id], says(None)).decided == [doubt_id]
    (row,) = stage.report.doubts(GROUP, False)
    assert (row["outcome"], row["decided_by"]) == (outcome, "policy")


def test_s7_an_answer_about_the_past_does_not_decide_the_present(stage: Stage) -> None:
    """Two evidence runs (ABA): while one's check looks, the other releases; the record runs, and raises once more."""
    doubt_id = raise_in(stage, path="shop.checks:paid")

    def meanwhile(record: Record) -> bool:
        assert stage.decide(stage.the_doubt(), Verdict.NOT_APPLIED, by="the other run")
        life = stage.life("a", check=CheckReference(path="shop.checks:paid", effect_timeout_s=0))
        (redo,) = stage.claim_released(life, stage.epoch, 1)
        stage.raise_doubt(life, redo.claim, 0)
        return False

    examined = examine(stage.evidence, [doubt_id], says(meanwhile))
    assert (examined.decided, examined.no_op) == ([], [doubt_id])
    assert stage.the_doubt().state is DoubtState.OPEN


def test_two_runs_at_once_decide_each_doubt_once(stage: Stage) -> None:
    crash_in_a_window(stage, 30)
    all_of_them, together, results = ids(stage), threading.Barrier(2), list[Any]()

    def run() -> None:
        together.wait(10)
        results.append(examine(stage.evidence, all_of_them, says(lambda record: record.offset % 2 == 0)))

    runs = [threading.Thread(target=run) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join(60)
    one, other = results
    assert sorted(one.decided + other.decided) == all_of_them
    assert sorted(one.no_op + other.no_op) == all_of_them
    assert [f.range.start for f in stage.doubts()] == list(range(1, 30, 2))


def test_a_doubt_that_a_run_is_on_is_not_announced_until_it_changes(stage: Stage) -> None:
    doubt_id = raise_in(stage)
    (facts,) = stage.evidence.announce(10, 60)
    assert facts.doubt_id == doubt_id
    stage.evidence.hold({doubt_id: facts.version}, 3600)
    stage.pass_time(61)
    assert stage.evidence.announce(10, 60) == []
    stage.evidence.hold({doubt_id: facts.version}, 0)
    assert [f.doubt_id for f in stage.evidence.announce(10, 60)] == [doubt_id]


def test_a_check_gets_the_records_own_bytes(stage: Stage) -> None:
    seen = list[Record]()
    doubt_id = raise_in(stage, path="shop.checks:paid")
    examine(stage.evidence, [doubt_id], says(lambda record: bool(seen.append(record))))
    (record,) = seen
    assert (record.offset, record.key, record.value, record.headers) == (
        0,
        b"key",
        b"value 0",
        (("h", b"1"),),
    )
