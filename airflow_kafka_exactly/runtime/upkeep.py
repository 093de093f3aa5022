"""What a leader does at each tick, besides answering: fence overdue lives, rotate filters, free what ended lives held, and
tell members of released doubts."""

from __future__ import annotations

import logging

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.runtime.leading import Leading
from airflow_kafka_exactly.runtime.world import World

log = logging.getLogger(__name__)

RELEASED_EVERY_S = 1.0
FREE_EVERY_S = 5.0
SAY_VOTES_EVERY_S = 2.0


class Upkeep:
    """One reign's. `StaleEpoch` and `NotLeading` end it; `Unavailable` is for the caller to survive."""

    def __init__(self, world: World, leading: Leading) -> None:
        self._world, self._leading = world, leading
        self._released_at = self._freed_at = self._said_at = world.clock.now()
        self._said: dict[str, int] = {}
        self.fenced = 0

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
        for command in self._leading.step(le.OverdueRead(lives)):
            assert isinstance(command, le.FenceLife)
            self._leading.must_lead()
            if self._world.ledger.fence(command.epoch, command.life):
                self.fenced += 1
                log.warning(
                    "fenced %s of %s (life %d): its lease is over",
                    command.life.slot,
                    command.life.group_id,
                    command.life.incarnation,
                )
                self._leading.step(le.LivesOver((command.life,)))

    def _rotate(self) -> None:
        for command in self._leading.step(le.Ticked()):
            assert isinstance(command, le.LoadLedger)
            self._leading.load_groups(command)

    def _tell_released(self) -> None:
        for group in {life.group_id for life in self._leading.connected()[0]}:
            count = self._world.ledger.released_count(group)
            for command in self._leading.step(le.Released(group, count)):
                assert isinstance(command, le.Notify)
                self._world.server.notify(command.notice)

    def _free(self) -> None:
        holders = self._leading.holders()
        if not holders:
            return
        for group in {life.group_id for life in holders}:
            self._leading.step(le.Progressed(group, self._world.ledger.progress(group)))
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
