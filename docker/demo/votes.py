"""Votes, from the leaders' own logs: each leader logs what it has voted since it took office."""

import re
from pathlib import Path

_LINE = re.compile(r"epoch (\d+): votes of group '?payments'?.*?fresh=(\d+) settled=(\d+) doubtful=(\d+)")
_NAMES = ("fresh", "settled", "doubtful")


def count_votes(state: Path) -> dict[str, int]:
    """The last line of each epoch, added up."""
    by_epoch: dict[int, tuple[int, ...]] = {}
    for log in [*state.glob("*.log"), *state.glob("airflow/logs/**/*.log")]:
        for epoch, *votes in _LINE.findall(log.read_text(errors="replace")):
            counted = tuple(int(n) for n in votes)
            by_epoch[int(epoch)] = max(counted, by_epoch.get(int(epoch), counted), key=sum)
    return {name: sum(counted[place] for counted in by_epoch.values()) for place, name in enumerate(_NAMES)}
