create or replace function kafka_exactly.claim_released(
  p_group text, p_slot text, p_incarnation bigint, p_epoch bigint, p_attempt uuid, p_limit integer)
returns setof kafka_exactly.claim
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Any member may redo a released doubt: compare-and-set on its row (H6). An attempt that was granted before gets the same.
declare
  me member_life;
  wanted bigint[];
begin
  perform require_epoch(p_epoch);
  me := require_current(p_group, p_slot, p_incarnation);
  return query select * from claim where life_id = me.life_id and attempt = p_attempt and state = 'open' and doubt_id is not null;
  if found then
    return;
  end if;
  select array_agg(doubt_id) into wanted from (
    select d.doubt_id from doubt d join partition p using (partition_id)
     where p.group_id = p_group and d.state = 'released' and d.durable
     order by d.range_start, p.topic_id, p.number limit p_limit) as w;
  if wanted is null then
    return;
  end if;
  perform lock_partitions((select array_agg(distinct partition_id) from doubt where doubt_id = any(wanted)));
  return query
    with taken as (
      update doubt set state = 'claimed', version = version + 1
       where doubt_id = any(wanted) and state = 'released' and durable returning *),
    -- A settled neighbour may reach into the gap below or above the records.
    placed as (
      select t.*,
        greatest(t.range_start, (select max(c.range_stop) from claim c
          where c.partition_id = t.partition_id and c.range_start <= t.first_record and c.range_stop > t.range_start)) as a,
        least(t.range_stop, (select min(c.range_start) from claim c
          where c.partition_id = t.partition_id and c.range_start > t.last_record and c.range_start < t.range_stop)) as b
        from taken t)
    insert into claim (partition_id, life_id, epoch, range_start, range_stop, started, applied, unit, doubt_id, attempt)
    select partition_id, me.life_id, p_epoch, a, b, a, a, unit, doubt_id, p_attempt from placed order by range_start
    returning *;
end $$;
