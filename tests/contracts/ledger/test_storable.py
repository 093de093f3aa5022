"""What others say (an exception, a target, a person, a broker) never makes a write fail, on either ledger: such a write would be
asked again for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from ledger_stage import CLUSTER, GROUP, PLACE, TOPIC, Stage, record

from airflow_kafka_exactly.errors import ConfigurationError, SlotBusy
from airflow_kafka_exactly.protocol.claims import CheckReference, Decision, LifeKind, OpenLife, Verdict
from airflow_kafka_exactly.protocol.record import OffsetRange
from airflow_kafka_exactly.protocol.storable import TEXT_CHARACTERS

NUL, SURROGATE = "cannot parse 'a\x00b'", b"caf\xe9".decode("utf-8", "surrogateescape")
LONG = "bad answer: " + "0123456789" * 100_000
FOREIGN = pytest.mark.parametrize(
    ("said", "kept"),
    [
        (NUL, r"cannot parse 'a\x00b'"),
        (SURROGATE, r"caf\udce9"),
        (LONG, LONG[:1960]),
        ("\ud83d", r"\ud83d"),
        ("", ""),
        ("naïve 🐘\n\t\x1b\x7f￿", "naïve 🐘\n\t\x1b\x7f￿"),
    ],
    ids=["zero byte", "surrogate", "a megabyte", "half a pair", "empty", "unusual but text"],
)
VALUES = [
    float("nan"),
    float("inf"),
    -0.0,
    1e308,
    2**63,
    -(10**400),
    10**5000,
    b"\x00",
    datetime(2026, 1, 1, tzinfo=UTC),
    ["a\x00", ("\ud800", {"k\x00": NUL})],
    {"x" * 10_000: LONG, 1: 2, None: None},
    {"deep": [[[[[[[[[[[[["here"]]]]]]]]]]]]]},
    list(range(100_000)),
    {"set": {1}},
]


@FOREIGN
def test_the_reason_of_a_raised_doubt(stage: Stage, said: str, kept: str) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 3)
    assert stage.member.raise_doubt(life, claim, [record(0)], 1, said) == 1
    doubt = stage.the_doubt()
    assert doubt.reason.startswith(kept)
    assert len(doubt.reason) <= TEXT_CHARACTERS
    assert stage.report.doubts(GROUP, True)[0]["reason"] == doubt.reason
    stage.die(life)
    assert stage.frontier() == 1


@FOREIGN
def test_the_reason_of_a_dead_letter_and_of_a_doubt_that_becomes_one(
    stage: Stage, said: str, kept: str
) -> None:
    life = stage.life()
    claim = stage.claim(life, 0, 3)
    assert stage.member.bury(life, claim, [record(0)], 1, said, 3) == 1
    stage.member.raise_doubt(life, claim, [record(1)], 2, said)
    assert stage.decide(stage.the_doubt(), Verdict.UNKNOWN, by=said, dead_letter=True)
    letters = stage.report.dead_letters(GROUP)
    assert [letter["reason"].startswith(kept) for letter in letters] == [True, True]
    assert letters[1]["buried_by"].startswith(kept)
    assert all(len(letter["reason"]) <= TEXT_CHARACTERS for letter in letters)


@FOREIGN
def test_why_kafka_refused_an_offset_commit(stage: Stage, said: str, kept: str) -> None:
    life = stage.life()
    stage.apply(life, stage.claim(life, 0, 3))
    assert stage.member.refused(life, {PLACE: 3}, said) == 1
    assert stage.report.orphans(GROUP, True)[0]["reason"].startswith(kept)


@FOREIGN
def test_who_holds_a_slot_where_and_who_leads(stage: Stage, said: str, kept: str) -> None:
    stage.life("a", owner=f"{said} ", process=said)
    (member,) = stage.report.status()["members"]
    assert member["owner"].startswith(kept)
    assert member["process"].startswith(kept)
    stage.life("a", owner=f"{said} ")  # the same owner: a takeover
    with pytest.raises(SlotBusy) as busy:
        stage.life("a", owner="somebody else")
    assert busy.value.holder.startswith(kept)
    assert stage.leader.raise_epoch(said) == 1
    assert stage.report.status()["leader"].startswith(kept)


@FOREIGN
def test_what_a_person_writes(stage: Stage, said: str, kept: str) -> None:
    stage.doubt(stage.life(), 0, 1)
    facts = stage.the_doubt()
    evidence = {"person": said, "note": [said, {said: said}]}
    assert stage.evidence.decide(decided(facts.doubt_id, facts.version, said, evidence))
    (row,) = stage.report.doubts(GROUP, False)
    assert row["decided_by"].startswith(kept)
    assert row["evidence"]["note"][0] == row["evidence"]["person"] == row["decided_by"]
    assert list(row["evidence"]["note"][1].values()) == [row["decided_by"]]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_evidence_of_any_kind_is_kept_as_json(stage: Stage, value: object) -> None:
    stage.doubt(stage.life(), 0, 1)
    facts = stage.the_doubt()
    assert stage.evidence.decide(decided(facts.doubt_id, facts.version, "check", {"answer": value, "b": 1}))
    (row,) = stage.report.doubts(GROUP, False)
    assert row["evidence"]["b"] == 1
    assert "answer" in row["evidence"]
    assert len(json.dumps(row["evidence"], allow_nan=False)) < 250_000


@pytest.mark.parametrize("name", ["group\x00", "gr\udce9up", "g" * 1201, "ä" * 601])
def test_names_that_cannot_be_kept_are_refused_and_never_changed(stage: Stage, name: str) -> None:
    with pytest.raises(ConfigurationError, match="the consumer group"):
        stage.life(group=name)
    with pytest.raises(ConfigurationError, match="the slot"):
        stage.life(name)
    with pytest.raises(ConfigurationError, match="the Kafka connection"):
        stage.life(kafka_connection=name)
    assert stage.evidence.find(name, name, 0, OffsetRange(0, 1)) == []
    assert stage.report.doubts(name, False) == stage.report.dead_letters(name) == []
    assert stage.report.orphans(name, False) == []


def test_the_longest_names_fit_whatever_they_are_made_of(stage: Stage) -> None:
    letters = "".join(
        chr(0x100 + (i * i * 7 + i) % 1000) for i in range(600)
    )  # 1,200 bytes that do not compress well
    life = stage.life(letters, group=letters)
    assert (life.group_id, life.slot) == (letters, letters)
    assert stage.member.frontiers(letters, [TOPIC]) == {PLACE: 0}


@pytest.mark.parametrize(
    "arguments", [("a\x00",), ("\ud800",), ({"k\x00": 1},), (float("nan"),), (datetime.now(UTC),), ({1},)]
)
def test_arguments_that_would_not_come_back_as_they_were_are_refused(stage: Stage, arguments: object) -> None:
    with pytest.raises(ConfigurationError, match="arguments"):
        stage.life(check=CheckReference(path="m:f", args=arguments))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="arguments"):
        stage.life(check=CheckReference(path="m:f", kwargs={"x": arguments}))


def test_arguments_that_only_look_odd_come_back(stage: Stage) -> None:
    check = CheckReference(
        path="m:f", args=(r"\u0000", "\\\\u0000", "\n", "🐘", 2**70, -1.5, None), kwargs={"a": [True]}
    )
    stage.doubt(stage.life(check=check), 0, 1)
    assert stage.the_doubt().check == check


@pytest.mark.parametrize("bound", [2**63 - 1, 2**63, 2**200])
def test_offsets_beyond_what_kafka_has_are_no_range(stage: Stage, bound: int) -> None:
    stage.doubt(stage.life(), 0, 1)
    if bound < 2**63:
        assert len(stage.evidence.find(GROUP, TOPIC, 0, OffsetRange(0, bound))) == 1
    else:
        with pytest.raises(ValueError, match="not an offset range"):
            OffsetRange(0, bound)


@pytest.mark.parametrize("number", [2**31, 2**63, 2**200, -1])
def test_numbers_that_nothing_has_find_nothing(stage: Stage, number: int) -> None:
    stage.doubt(stage.life(), 0, 1)
    assert stage.evidence.find(GROUP, TOPIC, number, OffsetRange(0, 9)) == []
    assert stage.evidence.facts_of([number]) == []
    assert stage.evidence.payload(number) == []
    stage.evidence.hold({number: 1}, 5)


@pytest.mark.parametrize("seconds", [8.64e13, 1e300, float("inf")])
def test_a_time_beyond_the_calendar_is_for_ever(stage: Stage, seconds: float) -> None:
    """`response_timeout=timedelta.max` is an honest way to write "no limit"."""
    stage.doubt(stage.life(), 0, 1)
    stage.evidence.hold({stage.the_doubt().doubt_id: stage.the_doubt().version}, seconds)
    stage.pass_time(86_400 * 365 * 100)
    assert stage.evidence.announce(10, seconds) == []
    stage.evidence.hold({stage.the_doubt().doubt_id: stage.the_doubt().version}, 0)
    assert len(stage.evidence.announce(10, seconds)) == 1
    assert stage.evidence.announce(10, seconds) == []
    assert stage.evidence.announce(2**40, 0) != []


@pytest.mark.parametrize("lease_s", [float("nan"), float("inf"), 0.0, -1.0, 1e300])
def test_a_lease_is_a_time(lease_s: float) -> None:
    with pytest.raises(ValueError, match="lease"):
        replace(opening(), lease_s=lease_s)


def decided(doubt_id: int, version: int, by: str, evidence: dict[str, object]) -> Decision:
    return Decision(doubt_id=doubt_id, version=version, verdict=Verdict.APPLIED, by=by, evidence=evidence)


def opening() -> OpenLife:
    return OpenLife(
        group_id=GROUP,
        cluster_id=CLUSTER,
        slot="a",
        owner="o",
        kind=LifeKind.WORKER,
        process="p",
        lease_s=1.0,
    )
