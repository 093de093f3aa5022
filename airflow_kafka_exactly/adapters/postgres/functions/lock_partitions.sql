-- Lock order (S4): life, partitions sorted by (topic id, number), claims that are marked or ended, then the epoch, then what is
-- granted and doubted. Nothing waits for a life, a partition or an effect's claim while it holds the epoch.

create or replace function kafka_exactly.lock_partitions(p_ids bigint[]) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  perform from partition where partition_id = any(p_ids) order by topic_id, number, partition_id for no key update;
end $$;

create or replace function kafka_exactly.lock_partitions_of(p_life bigint) returns bigint[]
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare ids bigint[];
begin
  -- The life's row is locked: it makes no new claims, so this set only shrinks.
  select coalesce(array_agg(distinct partition_id), '{}') into ids from claim where life_id = p_life and state = 'open';
  perform lock_partitions(ids);
  return ids;
end $$;
