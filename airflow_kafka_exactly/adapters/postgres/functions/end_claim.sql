create or replace function kafka_exactly.end_claim(c kafka_exactly.claim, p_start bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Ends an open claim at `p_start`: nothing at or above it has begun. Only this lowers `started` (F5).
-- The caller holds the partition's and the claim's row lock.
declare stop bigint := greatest(p_start, c.applied);
begin
  if stop >= c.range_stop then
    return;
  end if;
  if c.doubt_id is not null then
    if exists (select from doubt_record where doubt_id = c.doubt_id and record_offset < stop) then
      return;  -- a part of a redo has begun: it stays for its marks, or for the fence
    end if;
    delete from claim where claim_id = c.claim_id;
    update doubt set state = 'released', version = version + 1 where doubt_id = c.doubt_id and state = 'claimed';  -- F2
    perform note('doubt', c.doubt_id, 'given back', life_name(c.life_id));
  elsif stop <= c.range_start then
    delete from claim where claim_id = c.claim_id;
  else
    update claim
       set range_stop = stop, started = least(started, stop), state = case when applied >= stop then 'settled' else 'open' end
     where claim_id = c.claim_id;
  end if;
end $$;

create or replace function kafka_exactly.give_back(
  p_group text, p_slot text, p_incarnation bigint, p_claim bigint, p_start bigint,
  p_failing bigint[], p_stops bigint[], p_attempts integer[], p_for_s double precision[]) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare
  c claim;
  place bigint;
begin
  select partition_id into place from claim where claim_id = p_claim;
  perform lock_partitions(array[place]);
  select cl.* into c from claim cl join member_life l using (life_id)
   where cl.claim_id = p_claim and cl.state = 'open'
     and l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation for update of cl;
  if c.claim_id is not null then
    perform note_failing(place, p_failing, p_stops, p_attempts, p_for_s);
    perform end_claim(c, p_start);
    perform fold(place);
  end if;
end $$;
