create or replace function kafka_exactly.decide(
  p_doubt bigint, p_version integer, p_verdict text, p_by text, p_evidence jsonb, p_dead_letter boolean) returns boolean
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- A verdict or a ruling. A no-op unless the doubt is what was judged: every change of its kind, life or state changes its
-- version (two evidence runs at once, a double click, a late person).
declare
  d doubt;
  place bigint;
  held boolean;
  applied boolean;
  given_up text;
begin
  select partition_id into place from doubt where doubt_id = p_doubt;
  perform lock_partitions(array[place]);
  perform note_settled(place, null);
  -- What is released and has no payload waits for it, and may be given up: nobody runs it.
  select * into d from doubt
   where doubt_id = p_doubt and version = p_version and (state = 'open' or state = 'released' and not durable and p_dead_letter)
     for update;
  if d.doubt_id is null then
    return false;
  end if;
  -- Both in one snapshot: an effect that commits meanwhile finds its claim neither held any more nor noted yet. A claim over it
  -- that is open may still have its effect: only its own life, or its fence, ends that.
  select coalesce(bool_or(c.state = 'open' and c.applied <= d.last_record), false),
         d.settled or d.kind in ('vote', 'collision') and coalesce(bool_or(
           c.doubt_id is null and c.range_start <= d.first_record
           and d.last_record < case when c.state = 'settled' then c.range_stop else c.applied end), false)
    into held, applied
    from claim c where c.partition_id = place and c.range_start <= d.last_record and c.range_stop > d.first_record;
  if applied and (p_verdict <> 'applied' or p_dead_letter) then
    return false;
  end if;
  if p_verdict = 'unknown' and not p_dead_letter then
    update doubt set verdict = p_verdict, evidence = p_evidence, decided_by = p_by, version = version + 1 where doubt_id = p_doubt;
    perform note('doubt', p_doubt, 'unknown', p_by, p_evidence);
    return true;
  end if;
  if held then
    return false;
  end if;
  given_up := case when d.durable then 'dead_letter' else 'lost' end;  -- without its payload nothing is left to keep
  if p_dead_letter and d.durable then
    insert into dead_letter (partition_id, record_offset, key, value, header_names, header_values, timestamp_ms, reason,
                             attempts, doubt_id, buried_by)
    select place, record_offset, key, value, header_names, header_values, timestamp_ms, d.reason, 1, p_doubt, p_by
      from doubt_record where doubt_id = p_doubt
    on conflict do nothing;
  end if;
  update doubt
     set verdict = p_verdict, evidence = p_evidence, decided_by = p_by, version = version + 1,
         state = case when p_verdict = 'applied' or p_dead_letter then 'closed' else 'released' end,
         outcome = case when p_dead_letter then given_up when p_verdict = 'applied' then 'discarded' end,
         closed_at = case when p_verdict = 'applied' or p_dead_letter then clock_timestamp() end
   where doubt_id = p_doubt;
  perform note('doubt', p_doubt, case when p_dead_letter then given_up when p_verdict = 'applied' then 'discarded'
                                      else 'released' end, p_by, p_evidence);
  perform fold(place);
  return true;
end $$;
