create or replace function kafka_exactly.payload_stored(p_partition bigint, p_start bigint, p_stop bigint) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The records of `[p_start, p_stop)` have been stored with the doubts they belong to: those become durable as far as the range
-- reaches (S2). The caller holds the partition's lock. Returns the frontier.
declare gone bigint[];
begin
  update doubt set stored_to = least(range_stop, p_stop)
   where partition_id = p_partition and state <> 'closed' and not durable
     and range_start < p_stop and stored_to >= p_start and stored_to < p_stop;
  -- A fence cannot know which offsets of a window hold a record.
  update doubt d set state = 'closed', outcome = 'no_record', decided_by = 'ledger', closed_at = clock_timestamp(),
                     version = version + 1
   where partition_id = p_partition and state in ('open', 'released') and durable
     and range_start < p_stop and range_stop > p_start
     and not exists (select from doubt_record r where r.doubt_id = d.doubt_id);
  return fold(p_partition);
end $$;
