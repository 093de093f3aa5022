create or replace function kafka_exactly.record_lost(
  p_group text, p_slot text, p_incarnation bigint, p_lost jsonb) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Returns how many offsets are new: whoever polls before the gap is settled meets the same ones again, and perhaps
-- more, above them or below.
declare
  me member_life;
  ids bigint[];
  r record;
  fresh int8multirange;
  span int8range;
  added bigint := 0;
begin
  me := require_current(p_group, p_slot, p_incarnation);
  select array_agg(p.partition_id) into ids
    from jsonb_array_elements(p_lost) as e
    join partition p on p.group_id = p_group and p.cluster_id = me.cluster_id
     and p.topic_id = e ->> 'topic_id' and p.number = (e ->> 'number')::integer;
  if coalesce(cardinality(ids), 0) <> jsonb_array_length(p_lost) then
    raise exception 'records of a partition are lost before it was opened' using errcode = 'KX004';
  end if;
  perform lock_partitions(ids);
  for r in select p.partition_id, (e ->> 'start')::bigint as start, (e ->> 'stop')::bigint as stop
             from jsonb_array_elements(p_lost) as e
             join partition p on p.partition_id = any(ids)
              and p.topic_id = e ->> 'topic_id' and p.number = (e ->> 'number')::integer
            order by p.partition_id loop
    select int8multirange(int8range(r.start, r.stop)) - coalesce(range_agg(int8range(range_start, range_stop)), '{}') into fresh
      from lost_range
     where partition_id = r.partition_id and int8range(range_start, range_stop) && int8range(r.start, r.stop);
    for span in select unnest(fresh) loop
      insert into lost_range (partition_id, range_start, range_stop, life_id)
      values (r.partition_id, lower(span), upper(span), me.life_id);
      perform note('partition', r.partition_id, 'deleted before it was read', life_name(me.life_id),
                   jsonb_build_object('start', lower(span), 'stop', upper(span)));
      added := added + upper(span) - lower(span);
    end loop;
  end loop;
  return added;
end $$;
