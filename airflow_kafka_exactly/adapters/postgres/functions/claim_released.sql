create or replace function kafka_exactly.claim_released(
  p_group text, p_slot text, p_incarnation bigint, p_epoch bigint, p_step bigint, p_limit integer)
returns setof kafka_exactly.claim
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Any member may redo a released doubt: compare-and-set on its row (H6). A number that is not greater than the life's last one
-- gets what it was granted, and nothing new.
declare
  me member_life;
  places bigint[];
begin
  me := require_current(p_group, p_slot, p_incarnation);
  if p_step <= me.step then
    return query select * from claim where life_id = me.life_id and step = p_step and state = 'open' and doubt_id is not null;
    return;
  end if;
  places := lock_released(p_group);
  perform require_epoch(p_epoch);
  update member_life set step = p_step where life_id = me.life_id;
  return query
    with wanted as (
      select d.doubt_id from doubt d join partition p using (partition_id)
       where d.partition_id = any(places) and d.state = 'released' and d.durable
       order by d.range_start, p.topic_id, p.number limit p_limit),
    taken as (
      update doubt set state = 'claimed', version = version + 1
       where doubt_id in (select doubt_id from wanted) and state = 'released' and durable returning *),
    -- A settled neighbour may reach into the gap below or above the records.
    placed as (
      select t.*,
        greatest(t.range_start, (select max(c.range_stop) from claim c
          where c.partition_id = t.partition_id and c.range_start <= t.first_record and c.range_stop > t.range_start)) as a,
        least(t.range_stop, (select min(c.range_start) from claim c
          where c.partition_id = t.partition_id and c.range_start > t.last_record and c.range_start < t.range_stop)) as b
        from taken t)
    insert into claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, unit, doubt_id, step)
    select partition_id, me.life_id, p_epoch, a, b, a, a, unit, doubt_id, p_step from placed order by range_start
    returning *;
end $$;

create or replace function kafka_exactly.lock_released(p_group text) returns bigint[]
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Locks a few partitions that have something to redo: those that nobody holds, so that members who ask at the same time share
-- them out; where there is none, the first one, after whoever holds it.
declare ids bigint[];
begin
  select array_agg(partition_id) into ids from (
    select partition_id from partition p
     where p.group_id = p_group
       and exists (select from doubt d where d.partition_id = p.partition_id and d.state = 'released' and d.durable)
     order by topic_id, number, partition_id limit 8 for no key update skip locked) as free;
  if ids is null then
    select array_agg(partition_id) into ids from (
      select partition_id from partition p
       where p.group_id = p_group
         and exists (select from doubt d where d.partition_id = p.partition_id and d.state = 'released' and d.durable)
       order by topic_id, number, partition_id limit 1 for no key update) as first;
  end if;
  return ids;
end $$;
