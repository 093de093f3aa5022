"""One channel, two adapters: `wire` is both, in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fakes import eventually
from wires import Wire


@pytest.fixture(params=["memory", "grpc"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    before = set(threading.enumerate())
    wire = Wire(request.param)
    yield wire
    wire.close()
    eventually(lambda: set(threading.enumerate()) <= before)
