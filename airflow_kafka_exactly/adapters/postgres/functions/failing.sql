create or replace function kafka_exactly.note_failing(
  p_partition bigint, p_offsets bigint[], p_stops bigint[], p_attempts integer[], p_for_s double precision[]) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Each of these records was tried in vain, and provably had no effect. It says how patient one was with it, never what may become
-- of it: a record is buried only by the claim that has tried it last. The caller holds the partition's lock.
begin
  if coalesce(cardinality(p_offsets), 0) = 0 then
    return;
  end if;
  -- What is settled is not tried again. (A redo's record lies below the frontier.)
  delete from failing f using partition p
   where p.partition_id = p_partition and f.partition_id = p_partition and f.record_offset < p.frontier
     and not exists (select from doubt d where d.partition_id = p_partition and d.state <> 'closed'
                        and d.range_start <= f.record_offset and f.record_offset < d.range_stop);
  insert into failing as known (partition_id, record_offset, range_stop, attempts, since)
  select p_partition, o, stop, n, clock_timestamp() - make_interval(secs => for_s)
    from unnest(p_offsets, p_stops, p_attempts, p_for_s) as f (o, stop, n, for_s)
  on conflict (partition_id, record_offset) do update
     set range_stop = excluded.range_stop,  -- of another unit, which was tried last, nothing else is known
         attempts = case when known.range_stop = excluded.range_stop then greatest(known.attempts, excluded.attempts)
                         else excluded.attempts end,
         since = case when known.range_stop = excluded.range_stop then least(known.since, excluded.since)
                      else excluded.since end;
end $$;
