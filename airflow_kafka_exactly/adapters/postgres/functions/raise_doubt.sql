create or replace function kafka_exactly.cut_claim(
  p_group text, p_slot text, p_incarnation bigint, p_claim bigint, p_first bigint, p_settled bigint, p_stop bigint)
returns kafka_exactly.claim
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Cuts `[.., p_stop)` out of an open claim and settles it up to `p_settled`: what is decided begins at `p_first`. The claim's
-- start moves to `p_stop`, so that no later mark covers what was cut out (F1). Null when that was done before (the answer was
-- lost); KX002 when fenced, and when the claim does not hold that range: a record below it would count as applied that nobody ran.
-- The caller holds the partition's lock.
declare c claim;
begin
  select cl.* into c from claim cl join member_life l using (life_id)
   where cl.claim_id = p_claim and cl.state = 'open'
     and l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation for update of cl;
  if c.claim_id is null and life_over(p_group, p_slot, p_incarnation) then
    raise exception 'claim % was fenced', p_claim using errcode = 'KX002';
  end if;
  if c.claim_id is null or c.range_start >= p_stop then
    return null;
  end if;
  if p_first < c.applied or p_stop > c.range_stop then
    raise exception 'claim % does not hold [%, %): it is applied up to % and ends at %',
      p_claim, p_first, p_stop, c.applied, c.range_stop using errcode = 'KX002';
  end if;
  if c.doubt_id is not null then
    delete from claim where claim_id = p_claim;
  elsif p_stop < c.range_stop then
    update claim set range_start = p_stop, started = greatest(started, p_stop), applied = greatest(applied, p_stop)
     where claim_id = p_claim;
    if p_settled > c.range_start then
      insert into claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, state, unit, step)
      values (c.partition_id, c.life_id, c.epoch, c.range_start, p_settled, p_settled, p_settled, 'settled', c.unit, c.step);
    end if;
  elsif p_settled > c.range_start then
    update claim set range_stop = p_settled, started = p_settled, applied = p_settled, state = 'settled'
     where claim_id = p_claim;
  else
    delete from claim where claim_id = p_claim;
  end if;
  return c;
end $$;

create or replace function kafka_exactly.raise_doubt(
  p_group text, p_slot text, p_incarnation bigint, p_claim bigint, p_first bigint, p_stop bigint, p_reason text,
  p_records kafka_exactly.payload)
returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Returns the frontier; null when nothing is left to do.
declare
  c claim;
  d doubt;
  place bigint;
begin
  select partition_id into place from claim where claim_id = p_claim;
  perform lock_partitions(array[place]);
  c := cut_claim(p_group, p_slot, p_incarnation, p_claim, p_first, p_first, p_stop);
  if c.claim_id is null then
    return null;
  end if;
  if c.doubt_id is not null then
    perform reopen(c.doubt_id, 'raised', c.life_id, p_claim, p_reason);
    return store_records(place, p_first, p_stop, p_records);
  end if;
  d.partition_id := place;
  d.unit := c.unit;
  d.kind := 'raised';
  d.life_id := c.life_id;
  d.written_by := c.life_id;
  d.claim_id := p_claim;
  d.reason := p_reason;
  perform note_settled(place, null);
  perform question(d, p_first, p_stop);
  update doubt set stored_to = range_stop
   where partition_id = place and kind = 'raised' and state = 'open' and claim_id = p_claim
     and range_start < p_stop and range_stop > p_first;
  return store_records(place, p_first, p_stop, p_records);
end $$;

create or replace function kafka_exactly.bury(
  p_group text, p_slot text, p_incarnation bigint, p_claim bigint, p_first bigint, p_stop bigint, p_reason text,
  p_attempts integer, p_records kafka_exactly.payload)
returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- As `raise_doubt`, but the records are settled and become dead letters.
declare
  c claim;
  place bigint;
  d bigint;
begin
  select partition_id into place from claim where claim_id = p_claim;
  perform lock_partitions(array[place]);
  c := cut_claim(p_group, p_slot, p_incarnation, p_claim, p_first, p_stop, p_stop);
  if c.claim_id is null then
    return null;
  end if;
  for d in update doubt set state = 'closed', outcome = 'dead_letter', decided_by = 'member', closed_at = clock_timestamp(),
                  version = version + 1
            where partition_id = place and state <> 'closed'
              and (doubt_id = c.doubt_id or c.doubt_id is null and first_record < p_stop and last_record >= p_first)
           returning doubt_id loop
    perform note('doubt', d, 'dead letter', life_name(c.life_id));
  end loop;
  perform note('dead_letter', p_claim, 'buried', life_name(c.life_id),
               jsonb_build_object('partition', place, 'start', p_first, 'stop', p_stop));
  insert into dead_letter (partition_id, record_offset, key, value, header_names, header_values, timestamp_ms, reason, attempts,
                           doubt_id, buried_by)
  select place, r.record_offset, r.key, r.value, r.header_names, r.header_values, r.timestamp_ms, p_reason, p_attempts,
         c.doubt_id, life_name(c.life_id)
    from records_of(p_records) r
  on conflict do nothing;
  return fold(place);
end $$;
