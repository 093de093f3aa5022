create or replace function kafka_exactly.open_partition(
  p_life kafka_exactly.member_life, p_cluster text, p_opening jsonb) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Where to start: the greater of the group's committed offset and the frontier. The caller holds the life's lock.
declare
  p partition;
  start bigint := p_opening ->> 'start';
  seen bigint := p_opening ->> 'claim_seen';
  is_committed boolean := p_opening ->> 'committed';
begin
  select * into p from partition
   where group_id = p_life.group_id and cluster_id = p_cluster and topic_id = p_opening ->> 'topic_id'
     and number = (p_opening ->> 'number')::integer for no key update;
  if seen > 0 and is_committed then
    if p.partition_id is null and exists (
         select from partition where group_id = p_life.group_id and topic = p_opening ->> 'topic'
            and number = (p_opening ->> 'number')::integer and topic_id <> p_opening ->> 'topic_id') then
      start := 0;  -- the offset is that of a deleted topic of the same name (H11)
      is_committed := false;
    elsif p.partition_id is null or start > p.frontier or seen > (select last_value from claim_claim_id_seq) then
      raise exception 'the offset % of %[%] was committed below claim %, which this ledger never granted', start,
        p_opening ->> 'topic', p_opening ->> 'number', seen using errcode = 'KX005';  -- H8
    end if;
  end if;
  if p.partition_id is null then
    insert into partition (group_id, cluster_id, topic, topic_id, number, frontier, committed, last_life_id)
    values (p_life.group_id, p_cluster, p_opening ->> 'topic', p_opening ->> 'topic_id',
            (p_opening ->> 'number')::integer, start, start, p_life.life_id)
    on conflict (group_id, cluster_id, topic_id, number) do update set last_life_id = p_life.life_id
    returning * into p;
    return p.frontier;
  end if;
  if is_committed and start > p.frontier and not exists (
       select from claim where partition_id = p.partition_id and range_start < start and range_stop > p.frontier) then
    -- Somebody moved the group's offset forward by hand. That is their decision; here it leaves a trace.
    perform note('partition', p.partition_id, 'skipped by a reset offset', life_name(p_life.life_id),
                 jsonb_build_object('start', p.frontier, 'stop', start));
    update partition set frontier = start where partition_id = p.partition_id;
    -- What was in question below it and has no payload is skipped with the rest: Kafka does not deliver it again.
    perform close_lost(p.partition_id, start, life_name(p_life.life_id), 'skipped by a reset offset');
    select frontier into p.frontier from partition where partition_id = p.partition_id;
  end if;
  update partition
     set last_life_id = p_life.life_id, opened_at = clock_timestamp(), frontier = p.frontier,
         committed = case when is_committed then start else committed end
   where partition_id = p.partition_id;
  return case when is_committed then greatest(start, p.frontier) else p.frontier end;
end $$;

create or replace function kafka_exactly.open_partitions(
  p_group text, p_slot text, p_incarnation bigint, p_cluster text, p_openings jsonb)
returns table (topic_id text, number integer, topic text, start bigint)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare
  me member_life;
  o jsonb;
begin
  me := require_current(p_group, p_slot, p_incarnation);
  for o in select e from jsonb_array_elements(p_openings) as e order by e ->> 'topic_id', (e ->> 'number')::integer loop
    return query select o ->> 'topic_id', (o ->> 'number')::integer, o ->> 'topic', open_partition(me, p_cluster, o);
  end loop;
end $$;
