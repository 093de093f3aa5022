create or replace function kafka_exactly.store_payload(
  p_group text, p_slot text, p_incarnation bigint, p_topic_id text, p_number integer, p_start bigint, p_stop bigint,
  p_records kafka_exactly.payload)
returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The doubts of `[p_start, p_stop)` get their payload. Returns the frontier.
declare place bigint;
begin
  select p.partition_id into place from partition p join member_life l using (group_id, cluster_id)
   where l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation
     and p.topic_id = p_topic_id and p.number = p_number;
  perform lock_partitions(array[place]);
  return store_records(place, p_start, p_stop, p_records);
end $$;

create or replace function kafka_exactly.store_records(
  p_partition bigint, p_start bigint, p_stop bigint, p_records kafka_exactly.payload)
returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The caller holds the partition's lock. Returns the frontier.
begin
  insert into doubt_record (doubt_id, record_offset, key, value, header_names, header_values, timestamp_ms)
  select d.doubt_id, r.record_offset, r.key, r.value, r.header_names, r.header_values, r.timestamp_ms
    from records_of(p_records) r
   cross join lateral (  -- doubts never overlap: the last that starts at or below a record is the only one that can hold it
     select * from doubt where partition_id = p_partition and range_start <= r.record_offset order by range_start desc limit 1) d
   where d.range_stop > r.record_offset and d.state <> 'closed'
  on conflict do nothing;
  return payload_stored(p_partition, p_start, p_stop);
end $$;

create or replace function kafka_exactly.records_of(p_records kafka_exactly.payload)
returns table (record_offset bigint, key bytea, value bytea, header_names bytea[], header_values bytea[], timestamp_ms bigint)
language sql immutable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  with headers as (
    select h.of_record, array_agg(h.name order by h.i) as names, array_agg(h.value order by h.i) as contents
      from unnest(p_records.header_of, p_records.header_names, p_records.header_values)
           with ordinality as h (of_record, name, value, i)
     group by h.of_record)
  select r.o, r.k, r.v, coalesce(h.names, '{}'), coalesce(h.contents, '{}'), r.t
    from unnest(p_records.offsets, p_records.keys, p_records.contents, p_records.timestamps) as r (o, k, v, t)
    left join headers h on h.of_record = r.o
$$;

create or replace function kafka_exactly.payload_stored(p_partition bigint, p_start bigint, p_stop bigint) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The records of `[p_start, p_stop)` have been stored with the doubts they belong to: those become durable as far as the range
-- reaches (S2). The caller holds the partition's lock. Returns the frontier.
begin
  perform list_window(w, p_start, p_stop) from doubt w
    where partition_id = p_partition and unlisted and state <> 'closed' and range_start < p_stop and range_stop > p_start;
  -- What may be judged from now on is announced at once.
  update doubt set stored_to = least(range_stop, p_stop), announced_at = null, quiet_until = null
   where partition_id = p_partition and state <> 'closed' and not durable and not unlisted
     and range_start < p_stop and stored_to >= p_start and stored_to < p_stop;
  -- An offset of a window, or of another's claim, that turned out to be a gap needs nobody.
  update doubt d set state = 'closed', outcome = 'no_record', decided_by = 'ledger', closed_at = clock_timestamp(),
                     version = version + 1
   where partition_id = p_partition and state in ('open', 'released') and durable
     and range_start < p_stop and range_stop > p_start
     and not exists (select from doubt_record r where r.doubt_id = d.doubt_id);
  return fold(p_partition);
end $$;

create or replace function kafka_exactly.list_window(w kafka_exactly.doubt, p_start bigint, p_stop bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- A fence cannot know which offsets of a window hold a record. Those of `[p_start, p_stop)` are stored with the window now: each
-- becomes a doubt of its own, and what the payload does not reach stays one row. The old row is the first of them.
declare
  lo bigint := greatest(w.range_start, p_start);
  hi bigint := least(w.range_stop, p_stop);
  part record;
  id bigint;
begin
  for part in
    with known as (select record_offset as o from doubt_record
                    where doubt_id = w.doubt_id and record_offset >= lo and record_offset < hi)
    select coalesce(lag(o) over k + 1, lo) as a, case when lead(o) over k is null then hi else o + 1 end as b,
           o as first, o as last, false as unlisted from known window k as (order by o)
    union all
    select lo, hi, lo, hi - 1, false where not exists (select from known)
    union all
    select a, b, a, b - 1, true from (values (w.range_start, lo), (hi, w.range_stop)) as rest (a, b) where a < b
    order by a
  loop
    if id is null then
      id := w.doubt_id;
      update doubt set range_start = part.a, range_stop = part.b, first_record = part.first, last_record = part.last,
                       unlisted = part.unlisted, stored_to = case when part.unlisted then part.a else part.b end,
                       version = version + 1, announced_at = null, quiet_until = null
       where doubt_id = id;
    else
      insert into doubt (partition_id, range_start, range_stop, first_record, last_record, unlisted, stored_to, unit, kind,
                         kind_since, state, life_id, written_by, claim_id, verdict, evidence, decided_by, reason, created_at)
      values (w.partition_id, part.a, part.b, part.first, part.last, part.unlisted,
              case when part.unlisted then part.a else part.b end, w.unit, w.kind, w.kind_since, w.state, w.life_id, w.written_by,
              w.claim_id, w.verdict, w.evidence, w.decided_by, w.reason, w.created_at)
      returning doubt_id into id;
      update doubt_record set doubt_id = id
       where doubt_id = w.doubt_id and record_offset >= part.a and record_offset < part.b;
    end if;
  end loop;
end $$;
