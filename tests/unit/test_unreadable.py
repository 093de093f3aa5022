"""One record that cannot be read is no error of the member."""

from __future__ import annotations

from typing import Any, cast

import pytest
from members import TOPIC, Members

from airflow_kafka_exactly.adapters.kafka.records import raw_records
from airflow_kafka_exactly.protocol import unreadable
from airflow_kafka_exactly.protocol.record import RawRecord
from airflow_kafka_exactly.runtime.function import UserFunction


class Message:
    """As the client's: its headers are read once, and are gone when that failed."""

    def __init__(self, offset: int, headers: list[tuple[str, bytes]] | Exception | None) -> None:
        self._offset, self._headers = offset, headers

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]] | None:
        headers, self._headers = self._headers, None
        if isinstance(headers, Exception):
            raise headers
        return headers


def test_its_neighbours_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "airflow_kafka_exactly.adapters.kafka.records.Message"
    odd = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    given = [Message(0, None), Message(1, odd), Message(2, [("h", b"1")]), Message(3, odd), Message(4, None)]
    for name in ("key", "value"):
        monkeypatch.setattr(Message, name, lambda _: None, raising=False)
    monkeypatch.setattr(Message, "timestamp", lambda _: (1, 0), raising=False)
    monkeypatch.setattr(module, Message)
    found = raw_records(cast("Any", given))
    assert [r.headers for r in found[::2]] == [(), (("h", b"1"),), ()]
    assert [unreadable.why_unreadable(r) is not None for r in found] == [False, True, False, True, False]
    assert "invalid start byte" in str(unreadable.why_unreadable(found[1]))


def test_it_is_alone_in_its_batch() -> None:
    def record(offset: int, *, odd: bool = False) -> RawRecord:
        return RawRecord(offset, None, None, unreadable.headers_of("odd") if odd else (("h", b""),), 0)

    assert unreadable.readable_together([record(0), record(1)]) == 2
    assert unreadable.readable_together([record(0), record(1, odd=True), record(2)]) == 1
    assert unreadable.readable_together([record(0, odd=True), record(1)]) == 1
    assert unreadable.readable_together([]) == 0


@pytest.mark.parametrize("unit", [False, True])
def test_s7_it_is_buried_although_the_function_never_saw_it(unit: bool) -> None:
    seen: list[int] = []

    def apply(records: Any) -> None:
        seen.extend(r.offset for r in (records if unit else [records]))

    with Members() as world:
        for offset in range(7):
            odd = offset in {0, 3, 4}
            world.broker.produce(TOPIC, b"x", headers=unreadable.headers_of("odd") if odd else ())
        ran = world.run(UserFunction(apply=apply, unit=unit))
        assert ran.failure is None
        assert (seen, world.dead_letters(), world.doubted()) == ([1, 2, 5, 6], 3, [])
        assert (world.frontier(), world.committed(), ran.counts["dead_letters"]) == (7, 7, 3)
