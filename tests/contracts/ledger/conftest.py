"""The same stories on both ledgers."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from ledger_stage import MemoryStage, PostgresStage, Stage


@pytest.fixture(scope="session")
def on_postgres(postgres: str) -> Iterator[PostgresStage]:
    """One database for all stories; each begins with an empty ledger."""
    name = f"stories_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    stage = PostgresStage(psycopg.conninfo.make_conninfo(postgres, dbname=name))
    yield stage
    stage.ledger.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(params=["memory", pytest.param("postgresql", marks=pytest.mark.integration)])
def stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "memory":
        return MemoryStage()
    stage: PostgresStage = request.getfixturevalue("on_postgres")
    stage.empty()
    return stage
