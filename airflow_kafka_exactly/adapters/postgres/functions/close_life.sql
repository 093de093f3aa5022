create or replace function kafka_exactly.close_life(p_group text, p_slot text, p_incarnation bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare
  me member_life;
  c claim;
begin
  -- Not `for update`: who writes a doubt about this life refers to its row while holding the partition that is locked next.
  select * into me from member_life
   where group_id = p_group and slot = p_slot and incarnation = p_incarnation for no key update;
  if me.state is null or me.state not in ('current', 'superseded') then
    return;
  end if;
  perform lock_partitions_of(me.life_id);
  for c in select * from claim where life_id = me.life_id and state = 'open' order by partition_id, range_start for update loop
    perform end_claim(c, c.started);
  end loop;
  perform fold(p.partition_id) from partition p where p.partition_id in (select partition_id from claim where life_id = me.life_id);
  -- What lies between the marks is the fence's, and only after this life's lease (H2).
  if exists (select from claim where life_id = me.life_id and state = 'open') then
    update member_life set state = 'superseded' where life_id = me.life_id;
    perform note('life', me.life_id, 'signed off with a window', p_slot || '#' || p_incarnation);
  else
    update member_life set state = 'closed', ended_at = clock_timestamp() where life_id = me.life_id;
    perform note('life', me.life_id, 'closed', p_slot || '#' || p_incarnation);
  end if;
end $$;
