create or replace function kafka_exactly.fence(p_epoch bigint, p_group text, p_slot text, p_incarnation bigint) returns boolean
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The end of a dead life, in one transaction (H12). False when its lease is not over, or when it was done before.
declare
  life bigint;
  places bigint[];
  c claim;
begin
  -- The lease is judged by this very statement's clock, and again if it had to wait for the row (H24).
  select life_id into life from member_life
   where group_id = p_group and slot = p_slot and incarnation = p_incarnation
     and state in ('current', 'superseded') and lease_until < now() for no key update;
  places := lock_partitions_of(life);
  -- An effect's transaction that is in flight is waited for here, before the epoch is held.
  perform from claim where life_id = life and state = 'open' order by partition_id, range_start for update;
  perform require_epoch(p_epoch);
  if life is null then
    return false;
  end if;
  update member_life set state = 'fenced', ended_at = clock_timestamp() where life_id = life;
  perform note('life', life, 'fenced', format('epoch %s', p_epoch));
  for c in select * from claim where life_id = life and state = 'open' order by partition_id, range_start loop
    perform fence_claim(c);
  end loop;
  perform fold(p) from unnest(places) as p;
  return true;
end $$;

create or replace function kafka_exactly.fence_claim(c kafka_exactly.claim) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The applied part is settled, the window becomes doubts, the rest is free. What remains of the claim is its applied part, so
-- that a redo can be claimed.
declare d doubt;
begin
  if c.doubt_id is not null then
    perform fence_redo(c);
    return;
  end if;
  if c.applied > c.range_start then
    update claim set range_stop = applied, started = applied, state = 'settled' where claim_id = c.claim_id;
  else
    delete from claim where claim_id = c.claim_id;
  end if;
  if c.applied > c.range_start then
    perform note_settled(c.partition_id, null);
  end if;
  if c.started > c.applied then
    d.partition_id := c.partition_id;
    d.unit := c.unit;
    d.kind := 'window';
    d.life_id := c.life_id;
    d.claim_id := c.claim_id;
    d.reason := format('between the marks of %s when its lease ended', life_name(c.life_id));
    d.unlisted := not c.unit;  -- which offsets hold a record is not known here, and a gap may be wide
    perform question(d, c.applied, c.started);
  end if;
end $$;

create or replace function kafka_exactly.fence_redo(c kafka_exactly.claim) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- A redo that may have begun is in question again and keeps its payload; one that has not is released again.
begin
  delete from claim where claim_id = c.claim_id;
  if c.started <= c.applied and c.applied <= c.range_start then
    update doubt set state = 'released', version = version + 1 where doubt_id = c.doubt_id and state = 'claimed';
    perform note('doubt', c.doubt_id, 'released by the fence', life_name(c.life_id));
    return;
  end if;
  if c.applied > c.range_start then  -- some of its records are settled: the doubt is about the rest
    update doubt set range_start = c.applied, first_record = greatest(first_record, c.applied)
     where doubt_id = c.doubt_id;
    delete from doubt_record where doubt_id = c.doubt_id and record_offset < c.applied;
    insert into claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, state, unit, step)
    values (c.partition_id, c.life_id, c.epoch, c.range_start, c.applied, c.applied, c.applied, 'settled', c.unit, c.step);
  end if;
  perform reopen(c.doubt_id, 'window', c.life_id, c.claim_id,
                 format('redone by %s, between its marks when its lease ended', life_name(c.life_id)));
end $$;
