"""What a leader does at each tick, besides answering: fence overdue lives, rotate filters, free what ended lives held, and
tell members of released doubts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.runtime.each import each
from airflow_kafka_exactly.runtime.leading import Leading
from airflow_kafka_exactly.runtime.world import World

log = logging.getLogger(__name__)

RELEASED_EVERY_S = 1.0
FREE_EVERY_S = 5.0
SAY_VOTES_EVERY_S = 2.0
FENCE_AGAIN_S, FENCE_AGAIN_MAX_S = 2.0, 60.0
"""When a life that could not be fenced is tried again: each failure doubles the pause. A try may take half a minute, in which
nothing else of a tick happens."""


@dataclass(frozen=True, slots=True)
class Unfenced:
    """An overdue life that could not be fenced."""

    again_at: float
    pause_s: float
    why: str


class Upkeep:
    """One reign's. `StaleEpoch` and `NotLeading` end it; `Unavailable` is for the caller to survive."""

    def __init__(self, world: World, leading: Leading) -> None:
        self._world, self._leading = world, leading
        self._released_at = self._freed_at = self._said_at = world.clock.now()
        self._said: dict[str, int] = {}
        self._unfenced: dict[Life, Unfenced] = {}
        self._troubles: dict[str, Mapping[str, str]] = {}
        """Why a loop failed for single groups, by what it does."""
        self.fenced = 0

    @property
    def trouble(self) -> str:
        """What does not work for single lives and groups, for people; empty when all is well."""
        lives = (
            f"life {x.incarnation} of {x.slot} of {x.group_id}: {u.why}" for x, u in self._unfenced.items()
        )
        groups = (
            f"{what}, group {g}: {why}"
            for what, failed in self._troubles.items()
            for g, why in failed.items()
        )
        return "; ".join([*lives, *groups])

    def tick(self) -> None:
        self._leading.must_lead()
        try:
            self._fence()
            self._rotate()
            now = self._world.clock.now()
            if now - self._released_at >= RELEASED_EVERY_S:
                self._released_at = now
                self._tell_released()
            if now - self._freed_at >= FREE_EVERY_S:
                self._freed_at = now
                self._free()
            if now - self._said_at >= SAY_VOTES_EVERY_S:
                self._said_at = now
                self._say_votes()
        except Unavailable:
            self._leading.step(le.LedgerLost())  # lives may not have been able to renew either
            raise

    def _fence(self) -> None:
        lives = tuple(overdue.life for overdue in self._world.ledger.overdue())
        now = self._world.clock.now()
        self._unfenced = {life: before for life, before in self._unfenced.items() if life in lives}
        due = [x for x in lives if x not in self._unfenced or self._unfenced[x].again_at <= now]
        # What failed before comes last: it may take as long again.
        commands = self._leading.step(le.OverdueRead(tuple(sorted(due, key=lambda x: x in self._unfenced))))
        failed = each(commands, self._fence_one, "fencing", self._world.ledger.overdue)
        for command, why in failed.items():
            assert isinstance(command, le.FenceLife)
            before = self._unfenced.get(command.life)
            pause_s = min(2 * before.pause_s, FENCE_AGAIN_MAX_S) if before else FENCE_AGAIN_S
            self._unfenced[command.life] = Unfenced(self._world.clock.now() + pause_s, pause_s, why)

    def _fence_one(self, command: le.Command) -> None:
        assert isinstance(command, le.FenceLife)
        self._leading.must_lead()
        done = self._world.ledger.fence(command.epoch, command.life)
        self._unfenced.pop(command.life, None)
        if done:
            self.fenced += 1
            log.warning(
                "fenced %s of %s (life %d): its lease is over",
                command.life.slot,
                command.life.group_id,
                command.life.incarnation,
            )
            self._leading.step(le.LivesOver((command.life,)))

    def _each_group(self, groups: Iterable[str], act: Callable[[str], object], what: str) -> None:
        self._troubles[what] = each(sorted(groups), act, what, self._world.ledger.overdue)

    def _rotate(self) -> None:
        loads: dict[str, le.LoadLedger] = {}
        for command in self._leading.step(le.Ticked()):
            assert isinstance(command, le.LoadLedger)
            loads.update(dict.fromkeys(command.groups, command))
        self._each_group(loads, lambda group: self._leading.load_groups(loads[group]), "rotating the filter")

    def _tell_released(self) -> None:
        groups = {life.group_id for life in self._leading.connected()[0]}
        self._each_group(groups, self._tell_released_of, "telling of released doubts")

    def _tell_released_of(self, group: str) -> None:
        count = self._world.ledger.released_count(group)
        for command in self._leading.step(le.Released(group, count)):
            assert isinstance(command, le.Notify)
            self._world.server.notify(command.notice)

    def _free(self) -> None:
        holders = self._leading.holders()
        if not holders:
            return
        self._each_group(
            {life.group_id for life in holders},
            lambda group: self._leading.step(le.Progressed(group, self._world.ledger.progress(group))),
            "freeing reservations",
        )
        over = self._world.ledger.over(holders)
        if over:
            self._leading.step(le.LivesOver(tuple(over)))

    def _say_votes(self) -> None:
        """For people: what was voted in this reign, whenever there was something new."""
        for counts in self._leading.group_states({}):
            if self._said.get(counts.group_id, 0) != counts.asked:
                self._said[counts.group_id] = counts.asked
                log.info(
                    "epoch %d: votes of group %r so far: fresh=%d settled=%d doubtful=%d",
                    *(self._leading.epoch, counts.group_id, counts.fresh, counts.settled, counts.doubtful),
                )
