"""What an interleaving left behind, said the same way by both ledgers: no ids, times, or order of the audit."""

from __future__ import annotations

from typing import Any

from airflow_kafka_exactly.adapters.memory import ledger_rules as rules
from airflow_kafka_exactly.adapters.memory.ledger_state import (
    ClaimRow,
    DoubtRow,
    LedgerState,
    LifeRow,
    PlaceRow,
)

Outcome = dict[str, Any]

# Folded first: a frontier that lags behind marks is safe, and the next write folds it.
# (A function, so that it is planned once.)
READ = """
language plpgsql as $$ begin
perform kafka_exactly.fold_alone(partition_id) from kafka_exactly.partition;
return jsonb_build_object(
    'epoch', (select epoch from kafka_exactly.leader_epoch),
    'lives', (select jsonb_agg(jsonb_build_array(slot, incarnation, state, lease_until > clock_timestamp()))
                from kafka_exactly.member_life),
    'places', (select jsonb_agg(jsonb_build_array(number, frontier, committed,
                        (select slot || '#' || incarnation from kafka_exactly.member_life where life_id = last_life_id)))
                 from kafka_exactly.partition),
    'claims', (select jsonb_agg(jsonb_build_array(p.number, c.range_start, c.range_stop, c.started, c.applied, c.state, c.unit,
                        l.slot || '#' || l.incarnation, c.doubt_id is not null))
                 from kafka_exactly.claim c join kafka_exactly.partition p using (partition_id)
                 join kafka_exactly.member_life l on l.life_id = c.life_id),
    'doubts', (select jsonb_agg(jsonb_build_array(p.number, d.range_start, d.range_stop, d.first_record, d.last_record, d.unit,
                        d.kind, d.state, d.durable, d.settled, d.outcome, d.verdict, l.slot || '#' || l.incarnation,
                        d.announced_at is not null, coalesce(d.quiet_until > clock_timestamp(), false),
                        (select jsonb_agg(r.record_offset) from kafka_exactly.doubt_record r where r.doubt_id = d.doubt_id)))
                 from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
                 left join kafka_exactly.member_life l on l.life_id = d.life_id),
    'letters', (select jsonb_agg(jsonb_build_array(p.number, d.record_offset))
                  from kafka_exactly.dead_letter d join kafka_exactly.partition p using (partition_id)),
    'orphans', (select jsonb_agg(jsonb_build_array(p.number, o.range_start, o.range_stop, o.state))
                  from kafka_exactly.orphan_commit o join kafka_exactly.partition p using (partition_id)),
    'owners', (select jsonb_agg(jsonb_build_array(group_id, dag_id, task_id)) from kafka_exactly.group_owner),
    'lost', (select jsonb_agg(jsonb_build_array(p.number, r.range_start, r.range_stop))
               from kafka_exactly.lost_range r join kafka_exactly.partition p using (partition_id)));
end $$
"""


def of_rows(found: Outcome) -> Outcome:
    """Of what `READ` gave."""
    said = {
        name: sorted(map(_hashable, rows or ()), key=repr) for name, rows in found.items() if name != "epoch"
    }
    said["doubts"] = sorted((_doubt(*row) for row in said["doubts"]), key=repr)
    return {"epoch": found["epoch"], **said}


def _hashable(row: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(sorted(x)) if isinstance(x, list) else x for x in row)


def _doubt(*row: Any) -> tuple[Any, ...]:
    """Of what is no longer open, nobody asks by whom or how often it was announced, or whether a mark has passed it."""
    (
        number,
        start,
        stop,
        first,
        last,
        unit,
        kind,
        state,
        durable,
        settled,
        outcome,
        verdict,
        life,
        said,
        quiet,
        records,
    ) = row
    open_now = state == "open"
    flags = (settled, verdict, life, said, quiet) if open_now else ()
    payload = (durable, records or ()) if state != "closed" else (True, ())
    return (number, start, stop, first, last, unit, kind, state, payload, outcome, flags)


def of_memory(state: LedgerState) -> Outcome:
    places = list(state.places.values())
    for place in places:
        rules.fold(place)
    found: dict[str, list[Any]] = {
        "lives": [_life(state, row) for row in state.lives.values()],
        "places": [
            [p.partition.number, p.frontier, p.committed, str(p.last_life) if p.last_life else None]
            for p in places
        ],
        "claims": [_claim(p, c) for p in places for c in p.claims],
        "doubts": [_doubt_row(state, p, d) for p in places for d in p.doubts],
        "letters": [[p.partition.number, x.record.offset] for p in places for x in p.letters],
        "orphans": [[p.partition.number, o.start, o.stop, str(o.state)] for p in places for o in p.orphans],
        "owners": [[group, *task] for group, task in state.owners.items()],
        "lost": [[p.partition.number, x.range.start, x.range.stop] for p in places for x in p.lost],
    }
    return of_rows({"epoch": state.epoch, **found})


def _life(state: LedgerState, row: LifeRow) -> list[Any]:
    return [row.life.slot, row.life.incarnation, row.state, row.lease_until > state.clock.now()]


def _claim(place: PlaceRow, c: ClaimRow) -> list[Any]:
    kept = "settled" if c.settled else "open"
    return [
        place.partition.number,
        c.start,
        c.stop,
        c.started,
        c.applied,
        kept,
        c.unit,
        str(c.life),
        c.doubt is not None,
    ]


def _doubt_row(state: LedgerState, place: PlaceRow, d: DoubtRow) -> list[Any]:
    quiet = d.quiet_until is not None and d.quiet_until > state.clock.now()
    life = str(d.life) if d.life else None
    return [
        place.partition.number, d.start, d.stop, d.first, d.last, d.unit, str(d.kind), str(d.state), d.durable, d.settled,
        str(d.outcome) if d.outcome else None, str(d.verdict) if d.verdict else None, life, d.announced_at is not None, quiet,
        sorted(d.records),
    ]  # fmt: skip
