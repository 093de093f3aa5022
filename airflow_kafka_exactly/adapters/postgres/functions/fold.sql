-- Moves the frontier over what is settled or durably doubted. The caller holds the partition's row lock.

create or replace function kafka_exactly.fold(p_partition bigint) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare
  old_frontier bigint;
  pos bigint;
  step bigint;
  d doubt;
  c claim;
begin
  select frontier into old_frontier from partition where partition_id = p_partition;
  pos := old_frontier;
  for i in 1 .. 32 loop  -- far more than usual
    step := null;
    -- Ranges of one table never overlap, so the last one that starts at or below `pos` is the only one that can hold it.
    select * into c from claim where partition_id = p_partition and range_start <= pos order by range_start desc limit 1;
    if c.claim_id is not null and c.range_stop > pos then
      step := case when c.state = 'settled' then c.range_stop when c.applied > pos then c.applied end;
    end if;
    if step is null then
      select * into d from doubt where partition_id = p_partition and range_start <= pos order by range_start desc limit 1;
      if d.doubt_id is not null and d.range_stop > pos and (d.state = 'closed' or d.durable) then  -- S2
        step := d.range_stop;
      end if;
    end if;
    exit when step is null;
    pos := step;
  end loop;
  if step is not null then
    pos := end_of_island(p_partition, pos);
  end if;
  if pos > old_frontier then
    update partition set frontier = pos where partition_id = p_partition;
  end if;
  perform note_settled(p_partition, pos);
  return pos;
end $$;

create or replace function kafka_exactly.end_of_island(p_partition bigint, p_from bigint) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- How far `fold` may walk from here, at once: while something stopped the frontier, any number of claims may have been settled
-- above it, and one step for each would hold the partition longer than a statement may take.
begin
  return (
    with solid as (
      select range_start as a, case when state = 'settled' then range_stop else applied end as b
        from claim where partition_id = p_partition and range_start > p_from
      union all
      select range_start, range_stop
        from doubt where partition_id = p_partition and range_start > p_from and (state = 'closed' or durable)
      union all
      (select range_start, case when state = 'settled' then range_stop else applied end
         from claim where partition_id = p_partition and range_start <= p_from order by range_start desc limit 1)
      union all
      select range_start, range_stop from (
        select * from doubt where partition_id = p_partition and range_start <= p_from order by range_start desc limit 1) d
       where state = 'closed' or durable)
    select coalesce(max(upper(island)), p_from)
      from (select unnest(range_agg(int8range(a, b))) from solid) as i (island) where island @> p_from);
end $$;

create or replace function kafka_exactly.note_settled(p_partition bigint, p_fold_to bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  -- A doubt about a part of a claim outlives the claim's row: what its applied mark said is kept, and the rows of settled claims
  -- below `p_fold_to` go (null: none), so many at once that nobody waits long for it; the next fold takes more. One statement, one
  -- snapshot: an effect's transaction settles its claim without the partition's lock, and a row that went without having been
  -- noted would let a record run again that was applied (S1).
  with gone as (
    delete from claim where claim_id = any(array(
      select claim_id from claim
       where partition_id = p_partition and state = 'settled' and range_start < p_fold_to and range_stop <= p_fold_to
       order by range_start limit 500)))
  update doubt d
     set settled = true, version = version + 1, announced_at = null, quiet_until = null
    from claim c  -- those that go included: nothing of a statement sees what another part of it does
   where d.partition_id = p_partition and d.state = 'open' and d.kind in ('vote', 'collision') and not d.settled
     and c.partition_id = p_partition and c.doubt_id is null and (c.state = 'settled' or c.applied > c.range_start)
     -- Said for the indexes: there may be very many of both.
     and int8range(d.range_start, d.range_stop) && int8range(c.range_start, c.range_stop)
     and c.range_start <= d.first_record
     and d.last_record < case when c.state = 'settled' then c.range_stop else c.applied end;
end $$;

create or replace function kafka_exactly.keep_applied() returns trigger
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Whatever takes a settled claim's row away: the doubts about its records keep which claim applied them. No decision reads this.
-- It is the second witness, for `reconcile`: a record that was applied and redone has two outcomes (S1).
begin
  update doubt d set applied_by = old.claim_id
   where d.partition_id = old.partition_id and int8range(d.range_start, d.range_stop) && int8range(old.range_start, old.range_stop)
     and old.range_start <= d.first_record and d.last_record < old.range_stop;
  return null;
end $$;
