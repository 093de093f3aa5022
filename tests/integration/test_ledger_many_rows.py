"""What the ledger's functions cost where rows have piled up: counted in pages that PostgreSQL reads, not in time."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from ledger_stage import PostgresStage

from airflow_kafka_exactly.adapters.postgres.statements import statements

pytestmark = pytest.mark.integration

CLAIMS = 20_000
SETTLED = """
insert into kafka_exactly.claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, state)
select partition_id, last_life_id, 0, %(start)s + g * 10, %(start)s + g * 10 + 10, %(start)s + g * 10 + 10,
       %(start)s + g * 10 + 10, 'settled'
  from kafka_exactly.partition, generate_series(0, %(count)s - 1) as g"""

IN_QUESTION = """
insert into kafka_exactly.doubt (partition_id, range_start, range_stop, first_record, last_record, unit, kind, stored_to, reason)
select partition_id, g, g + 1, g, g, false, 'vote', g + 1, 'voted doubtful' from kafka_exactly.partition,
       generate_series(0, %(count)s - 1) as g"""


@pytest.fixture
def stage(database: str) -> Iterator[PostgresStage]:
    stage = PostgresStage(database)
    yield stage
    stage.ledger.close()


def fill(stage: PostgresStage, rows: str, **parameters: int) -> None:
    with psycopg.connect(stage.settings.conninfo, autocommit=True) as connection:
        connection.execute(rows.encode(), parameters)
        connection.execute("analyze kafka_exactly.claim, kafka_exactly.doubt")


def pages(stage: PostgresStage, statement: str) -> int:
    """How many pages the statement looks at, with all that it calls. What reads the catalogues is not counted: it is run once
    before, and undone."""
    explain = f"explain (analyze, buffers, format json) {statement}".encode()
    with psycopg.connect(stage.settings.conninfo, autocommit=True) as connection:
        with connection.transaction(force_rollback=True):
            connection.execute(explain)
        row = connection.execute(explain).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def test_a_frontier_that_gets_unstuck_passes_all_at_once(stage: PostgresStage) -> None:
    """A slow record stopped it while others settled 20,000 claims above: one step for each would hold the partition, and keep
    every new leader out, for longer than a statement may take."""
    life = stage.life()
    slow = stage.claim(life, 0, 1)
    fill(stage, SETTLED, start=1, count=CLAIMS)
    stage.sql("update kafka_exactly.claim set started = 1, applied = 1 where claim_id = %s", slow.claim_id)
    assert pages(stage, "select kafka_exactly.fold(partition_id) from kafka_exactly.partition") < CLAIMS
    assert stage.frontier() == 1 + 10 * CLAIMS


def test_what_a_mark_settles_is_noted_without_looking_at_every_open_doubt(stage: PostgresStage) -> None:
    """Each fold asks which of 5,000 doubts in question a claim's applied mark covers: none."""
    life = stage.life()
    fill(stage, IN_QUESTION, count=5000)
    for start in range(0, 50, 10):
        stage.mark(life, stage.claim(life, 50_000 + start, 50_010 + start), 50_005 + start, 50_005 + start)
    fill(stage, "vacuum kafka_exactly.doubt")
    noted = "select kafka_exactly.note_settled(partition_id, null) from kafka_exactly.partition"
    assert pages(stage, noted) < 40


def test_a_fold_deletes_some_claims_at_a_time_and_the_last_ones_too(stage: PostgresStage) -> None:
    life = stage.life()
    fill(stage, SETTLED, start=0, count=1200)
    left = []
    for _ in range(3):
        claim = stage.claim(life, 12_000, 12_001)
        assert stage.frontier() == 12_000
        stage.member.give_back(life, claim.claim_id, 12_000)
        left += stage.sql("select count(*) from kafka_exactly.claim")
    assert left == [(200,), (0,), (0,)], "a claim and its give-back fold, 500 rows each"


def test_announcing_reads_no_doubt_that_is_held_or_had_its_turn(stage: PostgresStage) -> None:
    life = stage.life()
    fill(stage, IN_QUESTION, count=5000)
    stage.sql("update kafka_exactly.doubt set announced_at = clock_timestamp() - interval '2 min'")
    stage.sql(
        "update kafka_exactly.doubt set quiet_until = clock_timestamp() + interval '1 day' where range_start < 4000"
    )
    stage.doubt(life, 10_000, 10_001)
    assert len(stage.evidence.announce(10_000, 60)) == 1001
    fill(stage, "vacuum analyze kafka_exactly.doubt")
    announce = statements("evidence", "kafka_exactly")["announce"] % {"limit": 100, "again_s": 60}
    assert pages(stage, announce) < 40
