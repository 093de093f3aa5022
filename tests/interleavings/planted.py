"""Faults to plant in the ledger's SQL. Each is what somebody might have written; the interleavings must catch every one.

A fault is a textual patch of one function (blanks count as any blanks), or a function put in place of the shipped one. What no
longer applies fails the build: then the fault is written anew for the new text, or the rule that it broke is gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from interleavings.build import BuildError, functions

LOCK = "perform lock_partitions(array[place]);"


@dataclass(frozen=True)
class Patch:
    function: str
    old: str
    new: str
    """Empty `old`: the whole function."""


@dataclass(frozen=True)
class Fault:
    name: str
    patches: tuple[Patch, ...]
    seen_by: tuple[str, str] | None = None
    """The operations that are looked at first, for one that few pairs can see."""

    @cached_property
    def texts(self) -> list[str]:
        """The functions with the fault."""
        changed: dict[str, str] = {}
        for patch in self.patches:
            if patch.function not in functions():
                raise BuildError(f"{self.name}: there is no function {patch.function}")
            text = changed.get(patch.function, functions()[patch.function].text)
            changed[patch.function] = patch.new if not patch.old else _replaced(self.name, text, patch)
        return list(changed.values())

    @property
    def functions(self) -> frozenset[str]:
        return frozenset(p.function for p in self.patches)


def _replaced(name: str, text: str, patch: Patch) -> str:
    pattern = r"\s+".join(map(re.escape, patch.old.split()))
    changed, count = re.subn(pattern, lambda _: patch.new, text)
    if not count:
        raise BuildError(f"{name} does not apply: {patch.function} has no {patch.old!r}")
    return changed


FAULTS: dict[str, Fault] = {}


def fault(name: str, *patches: tuple[str, str, str], seen_by: tuple[str, str] | None = None) -> None:
    assert name not in FAULTS
    FAULTS[name] = Fault(name, tuple(Patch(*p) for p in patches), seen_by)


# -- what is read and what is written are not the same rows ------------------------------------------------------------

THREE_STATEMENTS = """
create or replace function kafka_exactly.fold(p_partition bigint) returns bigint
language plpgsql set search_path = kafka_exactly as $$
declare
  pos bigint;
  step bigint;
begin
  select frontier into pos from partition where partition_id = p_partition;
  update doubt d
     set settled = true, version = version + 1, announced_at = null, quiet_until = null
    from claim c
   where d.partition_id = p_partition and d.state = 'open' and d.kind in ('vote', 'collision') and not d.settled
     and c.partition_id = p_partition and c.doubt_id is null and c.range_start <= d.first_record
     and d.last_record < case when c.state = 'settled' then c.range_stop else c.applied end;
  loop
    select coalesce(
      (select case when c.state = 'settled' then c.range_stop else c.applied end from claim c
        where partition_id = p_partition and range_start <= pos
          and pos < case when c.state = 'settled' then c.range_stop else c.applied end),
      (select d.range_stop from doubt d where partition_id = p_partition and range_start <= pos and pos < range_stop
          and (d.state = 'closed' or d.durable))) into step;
    exit when step is null;
    pos := step;
  end loop;
  update partition set frontier = pos where partition_id = p_partition and frontier < pos;
  delete from claim where partition_id = p_partition and state = 'settled' and range_stop <= pos;
  return pos;
end $$;
"""
fault("fold_in_three_statements", ("fold", "", THREE_STATEMENTS), seen_by=("doubt_by_b", "last_effect"))
fault(
    "epoch_read_before_its_lock",
    (
        "raise_epoch",
        "perform pg_advisory_xact_lock(epoch_key()); update leader_epoch set epoch = epoch + 1,",
        (
            "select epoch + 1 into raised from leader_epoch; perform pg_advisory_xact_lock(epoch_key());"
            "update leader_epoch set epoch = raised,"
        ),
    ),
    seen_by=("take_office", "take_office"),
)

# -- guards that hold nothing ------------------------------------------------------------------------------------------

fault(
    "epoch_looked_at_without_its_lock",
    ("require_epoch", "perform pg_advisory_xact_lock_shared(epoch_key());", ""),
    seen_by=("claim_by_b", "take_office"),
)
fault(
    "epoch_raised_beside_claims",
    ("raise_epoch", "pg_advisory_xact_lock(epoch_key())", "pg_advisory_xact_lock_shared(epoch_key())"),
    seen_by=("claim_by_b", "take_office"),
)
fault("life_looked_at_without_its_lock", ("require_current", "for no key update;", ";"))
fault("partitions_not_locked", ("lock_partitions", "for no key update", ""))
fault("give_back_without_the_partition", ("give_back", LOCK, ""))
fault("raise_doubt_without_the_partition", ("raise_doubt", LOCK, ""))
fault(
    "fence_without_the_partitions",
    (
        "fence",
        "places := lock_partitions_of(life);",
        "places := array(select distinct partition_id from claim where life_id = life);",
    ),
)
fault("mark_without_the_partitions", ("mark", "perform lock_partitions(touched);", ""))
fault("give_back_without_the_claim", ("give_back", "for update of cl;", ";"))
fault("effect_without_the_claim", ("begin_effect", "for update of cl;", ";"))
fault(
    "fence_without_the_claims",
    (
        "fence",
        "perform from claim where life_id = life and state = 'open' order by partition_id, range_start for update;",
        "",
    ),
)
fault(
    "slots_opened_side_by_side",
    ("open_life", "perform pg_advisory_xact_lock(hashtextextended(p_group || chr(10) || p_slot, 7001));", ""),
)

# -- conditions that are gone ------------------------------------------------------------------------------------------

fault(
    "mark_lowers_started",
    ("write_mark", "greatest(started, p_started, p_applied)", "greatest(p_started, p_applied)"),
)
fault(
    "mark_lowers_applied",
    (
        "write_mark",
        "applied = least(range_stop, greatest(applied, p_applied))",
        "applied = least(range_stop, p_applied)",
    ),
)
fault("verdict_on_any_version", ("decide", "and version = p_version", ""))
fault("verdict_while_a_claim_runs", ("decide", "if held then", "if false then"))
fault("fence_before_the_lease_ends", ("fence", "and lease_until < now()", ""))
fault(
    "redo_claimed_twice",
    ("claim_released", "and d.state = 'released' and d.durable", "and d.durable"),
    ("claim_released", "and state = 'released' and durable", "and durable"),
)
fault(
    "late_copy_granted_again",
    ("claim_part", "continue when p_step <= me.step and", "continue when false and"),
)
fault(
    "redo_given_back_as_closed",
    (
        "end_claim",
        "set state = 'released', version = version + 1",
        "set state = 'closed', outcome = 'redone', version = version + 1",
    ),
)
fault("give_back_below_the_mark", ("end_claim", "greatest(p_start, c.applied)", "p_start"))
fault(
    "known_offset_lowered", ("committed", "greatest(p.committed, o.committed_offset)", "o.committed_offset")
)
fault(
    "old_life_stays_current",
    ("open_life", "update member_life set state = 'superseded' where life_id = old.life_id;", ""),
)
fault("group_moved_while_at_work", ("move_group", "lease_until > clock_timestamp()", "false"))
fault(
    "group_moved_without_its_row",
    (
        "move_group",
        (
            "insert into group_owner (group_id, dag_id, task_id) values (p_group, p_dag, p_task)"
            " on conflict do nothing; if not found then"
        ),
        "if true then",
    ),
    (
        "move_group",
        "update group_owner set dag_id = p_dag, task_id = p_task, recorded_at = clock_timestamp() where group_id = p_group;",
        (
            "insert into group_owner (group_id, dag_id, task_id) values (p_group, p_dag, p_task)"
            " on conflict (group_id) do update set dag_id = p_dag, task_id = p_task;"
        ),
    ),
    seen_by=("open_life_of_a_task", "move_group"),
)
fault(
    "lost_records_counted_twice",
    ("record_lost", "range_agg(int8range(range_start, range_stop))", "range_agg('empty'::int8range)"),
)
fault("frontier_passes_bare_doubts", ("fold", "or d.durable", "or true"))

# -- locks in an order of one's own ------------------------------------------------------------------------------------

fault(
    "partitions_locked_one_by_one",
    ("mark", "perform lock_partitions(touched);", "perform lock_partitions(array[x]) from unnest(touched) x order by x desc;"),
    ("committed", "perform lock_partitions((select array_agg(id) from partitions_in(p_group, null, p_offsets)));",
     "perform lock_partitions(array[x]) from (select id from partitions_in(p_group, null, p_offsets)) as y (x) order by x desc;"),
)  # fmt: skip
fault(
    "claim_waits_with_the_epoch",
    (
        "claim",
        "perform lock_partitions(ids);",
        "if p_step > me.step then perform require_epoch(p_epoch); end if; perform lock_partitions(ids);",
    ),
    (
        "claim",
        "if p_step > me.step then perform require_epoch(p_epoch); update",
        "if p_step > me.step then update",
    ),
)
fault(
    "redo_waits_with_the_epoch",
    (
        "claim_released",
        "places := lock_released(p_group); perform require_epoch(p_epoch);",
        "perform require_epoch(p_epoch); places := lock_released(p_group);",
    ),
)
fault(
    "fence_waits_with_the_epoch",
    ("fence", "perform require_epoch(p_epoch);", ""),
    (
        "fence",
        "places := lock_partitions_of(life);",
        "perform require_epoch(p_epoch); places := lock_partitions_of(life);",
    ),
)
