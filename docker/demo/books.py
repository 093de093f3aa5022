"""The ledger, read by the demo to aim its faults and to judge the end. It only reads."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

# The middle of a batch: far enough from both ends that it is still one when the fault arrives.
_RECORDS_DONE, _RECORDS_LEFT = 40, 80
_BUSY = """
select l.slot, l.incarnation, l.process, p.number as partition, c.range_start, c.applied, c.range_stop,
       p.frontier > c.range_start as moves_frontier
  from claim c join member_life l using (life_id) join partition p using (partition_id)
 where c.state = 'open' and c.doubt_id is null and l.state = 'current' and l.kind = 'worker'
   and c.range_start + %(done)s <= c.applied and c.applied + %(left)s <= c.range_stop
 order by c.range_stop - c.applied desc
"""
_LIVES = """
select slot, incarnation, kind, process, state from member_life where state = 'current' order by slot
"""
_PARTITIONS = """
select p.number, p.frontier, p.committed, l.slot
  from partition p left join member_life l on l.life_id = p.last_life_id
"""


@dataclass(frozen=True, slots=True)
class Busy:
    """A worker in the middle of a batch: some of the claim is applied, and more than a moment's work is left."""

    slot: str
    incarnation: int
    process: str
    partition: int
    range_start: int
    applied: int
    range_stop: int
    moves_frontier: bool
    """Nothing below the claim is unsettled, so that each mark gives the member an offset to commit."""

    @property
    def pid(self) -> int:
        return pid_of(self.process)

    def __str__(self) -> str:
        return (
            f"process {self.pid}, slot {self.slot}, life {self.incarnation}, partition {self.partition}: "
            f"{self.applied - self.range_start} of {self.range_stop - self.range_start} records applied"
        )


@dataclass(frozen=True, slots=True)
class LifeRow:
    slot: str
    incarnation: int
    kind: str
    process: str
    state: str


def pid_of(process: str) -> int:
    """Of ``host:pid``, as the ledger names a process."""
    return int(process.rpartition(":")[2])


class Books:
    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def _database(self) -> psycopg.Connection[Any]:
        """Opened again after it broke."""
        if self._connection is None or self._connection.closed:
            options = "-c search_path=kafka_exactly"
            self._connection = psycopg.connect(
                self._conninfo, autocommit=True, connect_timeout=5, options=options
            )
        return self._connection

    def busy_workers(self) -> list[Busy]:
        with self._database.cursor(row_factory=class_row(Busy)) as cursor:
            return cursor.execute(_BUSY, {"done": _RECORDS_DONE, "left": _RECORDS_LEFT}).fetchall()

    def lives(self) -> dict[str, LifeRow]:
        """Slot to its current life."""
        with self._database.cursor(row_factory=class_row(LifeRow)) as cursor:
            return {life.slot: life for life in cursor.execute(_LIVES)}

    def lease_left_seconds(self, slot: str, incarnation: int) -> float:
        """By the ledger's clock; renewed while the life goes on."""
        query = "select extract(epoch from lease_until - clock_timestamp()) from member_life where slot = %s and incarnation = %s"
        return float(self._one(query, slot, incarnation))

    def life_state(self, slot: str, incarnation: int) -> str:
        return str(
            self._one("select state from member_life where slot = %s and incarnation = %s", slot, incarnation)
        )

    def leader(self) -> tuple[int, str]:
        """Epoch and process of the latest leader."""
        row = self._database.execute("select epoch, leader from leader_epoch").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "")

    def partitions(self) -> dict[int, tuple[int, int, str]]:
        """Number to frontier, the committed offset as the ledger knows it, and the slot that was assigned it last."""
        return {
            n: (frontier, committed, slot)
            for n, frontier, committed, slot in self._database.execute(_PARTITIONS)
        }

    def unclosed_doubts(self) -> dict[str, int]:
        return self._counts("select state, count(*) from doubt where state <> 'closed' group by 1 order by 1")

    def doubts_by_end(self) -> dict[str, int]:
        return self._counts(
            "select outcome, count(*) from doubt where state = 'closed' group by 1 order by 1"
        )

    def doubts_by_kind(self) -> dict[str, int]:
        return self._counts("select kind, count(*) from doubt group by 1 order by 1")

    def last_orphan(self) -> int:
        return int(self._one("select coalesce(max(orphan_id), 0) from orphan_commit"))

    def orphan_after(self, orphan_id: int) -> tuple[int, int, int, str] | None:
        """Partition, range and reason of the first orphan commit after that one."""
        row = self._database.execute(
            "select number, range_start, range_stop, reason from orphan_commit join partition using (partition_id)"
            " where orphan_id > %s order by orphan_id limit 1",
            [orphan_id],
        ).fetchone()
        return None if row is None else (int(row[0]), int(row[1]), int(row[2]), str(row[3]))

    def open_orphans(self) -> int:
        return int(self._one("select count(*) from orphan_commit where state = 'open'"))

    def orphans_by_end(self) -> dict[str, int]:
        return self._counts("select state, count(*) from orphan_commit group by 1 order by 1")

    def _counts(self, query: str) -> dict[str, int]:
        return {str(name): int(n) for name, n in self._database.execute(query)}

    def _one(self, query: str, *parameters: object) -> Any:
        row = self._database.execute(query, parameters).fetchone()
        return None if row is None else row[0]
