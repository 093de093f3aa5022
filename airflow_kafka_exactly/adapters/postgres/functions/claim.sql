-- The arbiter (S5). A vote only decides what is asked for; what is granted is decided here, under the partition's lock.

create or replace function kafka_exactly.claim(
  p_group text, p_slot text, p_incarnation bigint, p_epoch bigint, p_step bigint, p_unit boolean, p_parts jsonb)
returns table (part integer, what text, range_start bigint, range_stop bigint, id bigint)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- A number that is not greater than the last one grants nothing new, whatever the epoch is by now: it is answered from what it was
-- granted. So a copy that is executed late, after its answer was heard and its claims were given back, leaves nothing (L1).
-- `what`: granted (id: claim), settled, doubted (id: how many of its doubts lack their payload), new (id: doubts written),
-- frontier (range_start).
declare
  me member_life;
  ids bigint[];
  i integer;
begin
  me := require_current(p_group, p_slot, p_incarnation);
  select array_agg(p.partition_id order by e.i) into ids
    from jsonb_array_elements(p_parts) with ordinality as e (part, i)
    join partition p on p.group_id = p_group and p.cluster_id = me.cluster_id
     and p.topic_id = e.part ->> 'topic_id' and p.number = (e.part ->> 'number')::integer;
  if coalesce(cardinality(ids), 0) <> jsonb_array_length(p_parts) then
    raise exception 'a partition is claimed before it was opened' using errcode = 'KX004';
  end if;
  perform lock_partitions(ids);
  -- Before the epoch is held: it has much to do when what stopped the frontier for long is gone.
  perform fold(p) from unnest(ids) as p;
  if p_step > me.step then
    perform require_epoch(p_epoch);
    update member_life set step = p_step where life_id = me.life_id;
  end if;
  for i in 1 .. cardinality(ids) loop
    return query select i - 1, g.what, g.range_start, g.range_stop, g.id
                   from claim_part(me, p_epoch, p_step, p_unit, ids[i], p_parts -> (i - 1)) as g;
  end loop;
end $$;

create or replace function kafka_exactly.claim_part(
  me kafka_exactly.member_life, p_epoch bigint, p_step bigint, p_unit boolean, p_partition bigint, p_part jsonb)
returns table (what text, range_start bigint, range_stop bigint, id bigint)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  offsets bigint[];
  piece record;
  d doubt;
  written integer := 0;
  reached bigint;
begin
  select frontier into reached from partition where partition_id = p_partition;
  d.partition_id := p_partition;
  d.written_by := me.life_id;
  for piece in select * from pieces_of(me.life_id, p_step, p_partition, p_part) loop
    continue when p_step <= me.step and piece.what in ('collision', 'vote', 'free');
    what := piece.what;
    range_start := piece.a;
    range_stop := piece.b;
    id := piece.claim_id;
    if what in ('collision', 'vote') and offsets is null then
      offsets := offsets_of(p_part);
    end if;
    if what in ('collision', 'vote') and exists (select from unnest(offsets) o where o >= piece.a and o < piece.b) then
      d.kind := what;
      -- What may happen to another's claim decides whether its records are judged together or one by one.
      d.unit := coalesce((select c.unit from claim c where c.claim_id = piece.claim_id), p_unit);
      d.claim_id := piece.claim_id;
      d.life_id := piece.life_id;
      d.reason := case when what = 'vote' then format('voted doubtful in epoch %s', p_epoch)
                       else format('part of claim %s of %s', piece.claim_id, life_name(piece.life_id)) end;
      written := written + put_doubts(d, piece.a, piece.b, offsets);
      what := 'doubted';
      id := 1;
    elsif what in ('free', 'vote') then
      insert into claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, unit, step)
      values (p_partition, me.life_id, p_epoch, piece.a, piece.b, piece.a, piece.a, p_unit, p_step)
      returning claim_id into id;
      what := 'granted';
    elsif what = 'collision' then
      -- A gap in another's claim: nothing to doubt, and nothing of ours. It is settled here and now, because nobody else
      -- polls it again when that claim is given back. (In the middle of a unit it would cut the unit's window in two.)
      insert into doubt (partition_id, range_start, range_stop, first_record, last_record, unit, kind, stored_to, written_by,
                         reason, state, outcome, decided_by, closed_at)
      select p_partition, piece.a, piece.b, piece.a, piece.b - 1, false, 'collision', piece.b, me.life_id,
             format('a gap in claim %s', c.claim_id), 'closed', 'no_record', 'ledger', clock_timestamp()
        from claim c where c.claim_id = piece.claim_id and (not c.unit or c.range_stop <= piece.b);
      if found then
        reached := fold(p_partition);
      end if;
      what := 'doubted';
      id := 0;
    end if;
    return next;
  end loop;
  what := 'new'; id := written;
  return next;
  what := 'frontier'; range_start := reached;
  return next;
end $$;

create or replace function kafka_exactly.offsets_of(p_part jsonb) returns bigint[]
language sql immutable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  -- Every offset holds a record when none are listed.
  select case when p_part -> 'offsets' = 'null'
    then (select array_agg(o) from generate_series((p_part ->> 'start')::bigint, (p_part ->> 'stop')::bigint - 1) as o)
    else (select coalesce(array_agg(o::bigint), '{}') from jsonb_array_elements_text(p_part -> 'offsets') as o) end
$$;

create or replace function kafka_exactly.pieces_of(
  p_life bigint, p_step bigint, p_partition bigint, p_part jsonb)
returns table (what text, a bigint, b bigint, claim_id bigint, life_id bigint)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
#variable_conflict use_column
-- Cuts the asked range at every boundary of a segment, claim, mark, doubt and the frontier, and says what each piece is.
-- Claims do not overlap, nor do doubts: the last one that starts at or below a piece is the only one that can cover it.
-- (PL/pgSQL keeps the plan; a function in plain SQL would be planned at each call.)
begin
return query
with asked as (select (p_part ->> 'start')::bigint as lo, (p_part ->> 'stop')::bigint as hi),
segments as (
  select (s ->> 0)::bigint as a, (s ->> 1)::bigint as b, (s ->> 2)::boolean as doubtful
    from jsonb_array_elements(p_part -> 'segments') as s),
place as (select frontier from partition where partition_id = p_partition),
claims as (
  select c.*, greatest(range_start, lo) as a from claim c, asked
   where partition_id = p_partition and int8range(range_start, range_stop) && int8range(lo, hi)),
doubts as (
  select d.*, greatest(range_start, lo) as a from doubt d, asked
   where partition_id = p_partition and int8range(range_start, range_stop) && int8range(lo, hi)),
cuts as (
  select a as cut, a as s, null::bigint as c, null::bigint as d from segments
  union all select a, null, a, null from claims
  union all select range_stop, null, null, null from claims
  union all select applied, null, null, null from claims
  union all select a, null, null, a from doubts
  union all select range_stop, null, null, null from doubts
  union all select frontier, null, null, null from place
  union all select hi, null, null, null from asked),
edges as (
  select cut, max(s) as s, max(c) as c, max(d) as d from cuts, asked where cut >= lo and cut <= hi group by cut),
spans as (
  select cut as a, lead(cut) over w as b, max(s) over w as s, max(c) over w as c, max(d) over w as d
    from edges window w as (order by cut)),
judged as (
  select x.a, x.b, c.claim_id, c.life_id, d.doubt_id,
    case when c.state = 'open' and c.life_id = p_life and c.step = p_step and x.a >= c.applied then 'granted'
         when d.state <> 'closed' then 'doubted'
         when x.a < p.frontier or d.state = 'closed' or c.state = 'settled' or x.a < c.applied then 'settled'
         when c.state = 'open' then 'collision'
         when s.doubtful then 'vote' else 'free' end as what,
    d.durable
   from spans x cross join place p
   left join segments s on s.a = x.s
   left join claims c on c.a = x.c and x.a < c.range_stop
   left join doubts d on d.a = x.d and x.a < d.range_stop
  where x.b is not null),
marked as (
  select *, what || ':' || case when what in ('granted', 'collision') then claim_id else 0 end as same from judged),
islands as (
  select *, count(*) filter (where fresh) over (order by a) as island
    from (select *, same is distinct from lag(same) over (order by a) as fresh from marked) m)
select what, min(a), max(b),
       case when what = 'doubted' then count(*) filter (where not durable) else min(claim_id) end, min(life_id)
  from islands group by island, what order by 2;
end $$;
