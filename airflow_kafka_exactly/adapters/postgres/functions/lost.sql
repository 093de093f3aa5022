-- Doubts whose payload cannot come any more (L2): they are closed, counted, and keep the reason.

create or replace function kafka_exactly.close_lost(p_partition bigint, p_below bigint, p_by text, p_reason text) returns integer
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The caller holds the partition's lock. What an applied mark covers, or a claim holds that may still have its effect, is not lost.
declare
  closed integer := 0;
  gone doubt;
begin
  perform note_settled(p_partition, null);
  for gone in
    update doubt d
       set state = 'closed', outcome = 'lost', decided_by = p_by, closed_at = clock_timestamp(), version = version + 1,
           evidence = jsonb_build_object('why', p_reason, 'kind', d.kind, 'reason', d.reason)
     where d.partition_id = p_partition and d.state in ('open', 'released') and not d.durable and not d.settled
       and d.range_stop <= p_below
       and not exists (select from claim c where c.partition_id = p_partition and c.state = 'open'
                          and c.range_start <= d.last_record and c.range_stop > d.first_record and c.applied <= d.last_record)
    returning * loop
    perform note('doubt', gone.doubt_id, 'lost', p_by, gone.evidence);
    closed := closed + 1;
  end loop;
  perform fold(p_partition);
  return closed;
end $$;

create or replace function kafka_exactly.close_lost_of(p_epoch bigint, p_group text, p_places jsonb, p_reason text) returns integer
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The leader's: whole partitions, of topics that are gone.
declare ids bigint[];
begin
  select array_agg(p.partition_id) into ids
    from jsonb_array_elements(p_places) as o
    join partition p on p.group_id = p_group and p.topic_id = o ->> 'topic_id' and p.number = (o ->> 'number')::integer;
  perform lock_partitions(ids);
  perform require_epoch(p_epoch);
  return (select coalesce(sum(close_lost(id, 9223372036854775807, format('epoch %s', p_epoch), p_reason)), 0)
            from unnest(ids) as id);
end $$;
