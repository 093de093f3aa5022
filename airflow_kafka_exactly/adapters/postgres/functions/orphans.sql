-- Settled and not known to be below the committed offset is an orphan commit (S8): a fact. The rows add reason and history.

create or replace function kafka_exactly.write_orphan(p_partition bigint, p_stop bigint, p_reason text) returns boolean
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The caller holds the partition's lock.
declare
  known bigint;
  covered bigint;
  id bigint;
begin
  select committed into known from partition where partition_id = p_partition;
  select max(range_stop) into covered from orphan_commit where partition_id = p_partition and state = 'open';
  if greatest(known, covered) >= p_stop then
    return false;
  end if;
  insert into orphan_commit (partition_id, range_start, range_stop, reason)
  values (p_partition, greatest(known, covered), p_stop, p_reason) returning orphan_id into id;
  perform note('orphan', id, 'open', p_reason);
  return true;
end $$;

create or replace function kafka_exactly.close_orphans(p_partition bigint, p_state text, p_by text) returns void
language sql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  with done as (
    update orphan_commit o set state = p_state, drained_by = p_by, closed_at = clock_timestamp()
      from partition p
     where p.partition_id = p_partition and o.partition_id = p_partition and o.state = 'open' and o.range_stop <= p.committed
    returning orphan_id)
  select note('orphan', orphan_id, p_state, p_by) from done
$$;

create or replace function kafka_exactly.partitions_in(p_group text, p_cluster text, p_offsets jsonb)
returns table (id bigint, committed_offset bigint)
language sql stable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  select p.partition_id, (o ->> 'offset')::bigint
    from jsonb_array_elements(p_offsets) as o
    join partition p on p.group_id = p_group and p.topic_id = o ->> 'topic_id' and p.number = (o ->> 'number')::integer
   where p_cluster is null or p.cluster_id = p_cluster
$$;

create or replace function kafka_exactly.committed(p_group text, p_by text, p_offsets jsonb) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  perform lock_partitions((select array_agg(id) from partitions_in(p_group, null, p_offsets)));
  update partition p set committed = greatest(p.committed, o.committed_offset)
    from partitions_in(p_group, null, p_offsets) as o where p.partition_id = o.id;
  perform close_orphans(id, 'member', p_by) from partitions_in(p_group, null, p_offsets);
end $$;

create or replace function kafka_exactly.refused(p_group text, p_offsets jsonb, p_reason text) returns integer
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  perform lock_partitions((select array_agg(id) from partitions_in(p_group, null, p_offsets)));
  return (select count(*) filter (where write_orphan(p.partition_id, least(p.frontier, o.committed_offset), p_reason))
            from partitions_in(p_group, null, p_offsets) o join partition p on p.partition_id = o.id);
end $$;

create or replace function kafka_exactly.sweep_orphans(p_epoch bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare ids bigint[];
begin
  select array_agg(p.partition_id) into ids
    from partition p left join member_life l on l.life_id = p.last_life_id
   where p.frontier > p.committed
     and (l.life_id is null or l.state in ('fenced', 'closed') or l.state = 'superseded' and l.lease_until < now());
  perform lock_partitions(ids);
  perform require_epoch(p_epoch);
  perform write_orphan(partition_id, frontier, 'the life that settled it is over')
     from partition where partition_id = any(ids) and frontier > committed;
end $$;

create or replace function kafka_exactly.read_back(p_epoch bigint, p_group text, p_offsets jsonb) returns setof bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- Known is what was read back last. A row that is above it (again) is open (again): one leader may undo another's alter (H17).
declare id bigint;
begin
  perform lock_partitions((select array_agg(i.id) from partitions_in(p_group, null, p_offsets) i));
  perform require_epoch(p_epoch);
  update partition p set committed = o.committed_offset
    from partitions_in(p_group, null, p_offsets) as o where p.partition_id = o.id and p.committed <> o.committed_offset;
  for id in update orphan_commit oc set state = 'open', drained_by = null, closed_at = null
              from partition p, partitions_in(p_group, null, p_offsets) as o
             where p.partition_id = o.id and oc.partition_id = o.id and oc.state <> 'open' and oc.range_stop > p.committed
            returning oc.orphan_id loop
    perform note('orphan', id, 'open again', format('epoch %s', p_epoch));
    return next id;
  end loop;
end $$;

create or replace function kafka_exactly.close_orphan(p_epoch bigint, p_orphan bigint, p_state text) returns boolean
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare place bigint;
begin
  select partition_id into place from orphan_commit where orphan_id = p_orphan;
  perform lock_partitions(array[place]);
  perform require_epoch(p_epoch);
  if p_state = 'superseded' then
    -- Also when its topic was deleted: then no offset will ever be read back, and the next sweep must not find it again.
    update partition p set committed = p.frontier from orphan_commit o
     where p.partition_id = place and o.orphan_id = p_orphan and o.state = 'open' and o.range_stop > p.committed;
  end if;
  update orphan_commit o set state = p_state, drained_by = format('epoch %s', p_epoch), closed_at = clock_timestamp()
    from partition p
   where o.orphan_id = p_orphan and o.state = 'open' and p.partition_id = place
     and o.range_stop <= p.committed;  -- drained when the offset read back says so, never when it was only altered
  if found then
    perform note('orphan', p_orphan, p_state, format('epoch %s', p_epoch));
  end if;
  return found;
end $$;
