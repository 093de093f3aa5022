create or replace function kafka_exactly.raise_epoch(p_leader text) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Waits for every claim that the old epoch still lets through; none comes after (H3).
declare raised bigint;
begin
  perform pg_advisory_xact_lock(epoch_key());
  update leader_epoch set epoch = epoch + 1, leader = p_leader, raised_at = clock_timestamp() returning epoch into raised;
  perform note('epoch', raised, 'raised', p_leader);
  return raised;
end $$;
