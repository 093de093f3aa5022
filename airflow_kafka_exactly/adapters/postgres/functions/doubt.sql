-- How doubts come to be. The caller holds the partition's row lock.

create or replace function kafka_exactly.put_doubts(
  p_like kafka_exactly.doubt, p_start bigint, p_stop bigint, p_offsets bigint[]) returns integer
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Doubts the records of `[p_start, p_stop)`: one row for all when `p_like.unit` or `p_like.unlisted`, else one for each, reaching
-- from the previous record's end to its own, the last one to the range's stop, so that gaps belong to a doubt.
declare
  written integer;
  whole boolean := p_like.unit or coalesce(p_like.unlisted, false);
begin
  with records as (select o from unnest(p_offsets) as o where o >= p_start and o < p_stop),
  pieces as (
    select coalesce(lag(o) over w + 1, p_start) as a, case when lead(o) over w is null then p_stop else o + 1 end as b,
           o as first, o as last from records where not whole window w as (order by o)
    union all
    select p_start, p_stop, min(o), max(o) from records where whole having count(*) > 0)
  insert into doubt (partition_id, range_start, range_stop, first_record, last_record, unit, kind, stored_to,
                     life_id, written_by, claim_id, reason, unlisted)
  select p_like.partition_id, a, b, first, last, p_like.unit, p_like.kind, a,
         p_like.life_id, p_like.written_by, p_like.claim_id, p_like.reason, coalesce(p_like.unlisted, false) from pieces;
  get diagnostics written = row_count;
  if written > 0 then
    perform note('doubt', p_like.partition_id, p_like.kind || ' doubts', coalesce(life_name(p_like.written_by), 'ledger'),
                 jsonb_build_object('partition', p_like.partition_id, 'start', p_start, 'stop', p_stop, 'rows', written));
  end if;
  return written;
end $$;

create or replace function kafka_exactly.question(p_like kafka_exactly.doubt, p_start bigint, p_stop bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Everything in `[p_start, p_stop)` is in question because of `p_like.life_id`: doubts that stand there take its kind, the
-- rest gets new ones. At most one unclosed doubt per record (H6).
declare
  pos bigint := p_start;
  d doubt;
begin
  for d in select * from doubt
            where partition_id = p_like.partition_id and int8range(range_start, range_stop) && int8range(p_start, p_stop)
            order by range_start for update loop
    if pos < d.range_start then
      perform put_doubts(p_like, pos, d.range_start, ends(p_like, pos, d.range_start));
    end if;
    pos := greatest(pos, d.range_stop);
    if d.state <> 'closed' and d.first_record < p_stop and d.last_record >= p_start then
      perform reopen(d.doubt_id, p_like.kind, p_like.life_id, p_like.claim_id, p_like.reason);
    end if;
  end loop;
  if pos < p_stop then
    perform put_doubts(p_like, pos, p_stop, ends(p_like, pos, p_stop));
  end if;
end $$;

create or replace function kafka_exactly.ends(p_like kafka_exactly.doubt, p_start bigint, p_stop bigint) returns bigint[]
language sql immutable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  -- The first and the last offset of what is doubted as a whole; else it is one record, with the gap behind it.
  select case when p_like.unit or coalesce(p_like.unlisted, false) then array[p_start, p_stop - 1] else array[p_start] end
$$;

create or replace function kafka_exactly.reopen(p_doubt bigint, p_kind text, p_life bigint, p_claim bigint, p_reason text)
returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  update doubt
     set state = 'open', kind = p_kind, kind_since = clock_timestamp(), life_id = p_life, claim_id = p_claim,
         reason = p_reason, version = version + 1, verdict = null, evidence = null, decided_by = null, settled = false,
         announced_at = null, quiet_until = null
   where doubt_id = p_doubt and state <> 'closed';
  perform note('doubt', p_doubt, p_kind, coalesce(life_name(p_life), 'ledger'));
end $$;
