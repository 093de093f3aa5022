"""The same stories on both ledgers."""

from collections.abc import Iterator

import pytest
from ledger_stage import MemoryStage, PostgresStage, Stage


@pytest.fixture(params=["memory", pytest.param("postgresql", marks=pytest.mark.integration)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    stage = PostgresStage(request.getfixturevalue("database"))
    yield stage
    stage.ledger.close()
