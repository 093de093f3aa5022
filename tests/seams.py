"""Something between a member and its ports: every call passes a hook first, which may count, refuse, delay or end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_kafka_exactly.runtime.membership import MemberPorts

Hook = Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]
"""`hook("ledger.claim", call, arguments)` makes the call, or not, and returns its answer, or another."""


class Seam:
    """Any port; what a call returns is given as it is, but for the names in `deeper`, whose answers are ports too."""

    def __init__(self, name: str, port: Any, hook: Hook, deeper: dict[str, str] | None = None) -> None:
        self._name, self._port, self._hook, self._deeper = name, port, hook, deeper or {}

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if not callable(target):
            return target

        def call(*arguments: Any, **more: Any) -> Any:
            answer = self._hook(f"{self._name}.{name}", lambda: target(*arguments, **more), arguments)
            return Seam(self._deeper[name], answer, self._hook) if name in self._deeper else answer

        return call


def seamed(ports: MemberPorts, hook: Hook) -> MemberPorts:
    """Places: `ledger.*`, `consumers.open`, `consumer.*`, `channel.link`, `link.*`, `directory.*`."""
    wrapped: dict[str, Any] = {
        "ledger": Seam("ledger", ports.ledger, hook),
        "consumers": Seam("consumers", ports.consumers, hook, {"open": "consumer"}),
        "channel": Seam("channel", ports.channel, hook, {"link": "link"}),
        "directory": Seam("directory", ports.directory, hook),
    }
    return replace(ports, **wrapped)
