create or replace function kafka_exactly.mark(
  p_group text, p_slot text, p_incarnation bigint, p_claims bigint[], p_started bigint[], p_applied bigint[])
returns table (partition_id bigint, topic_id text, number integer, topic text, frontier bigint, refused boolean)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  touched bigint[];
  missing boolean;
begin
  -- A claim's partition never changes, so this may be read before the lock.
  select coalesce(array_agg(distinct c.partition_id), '{}') into touched from claim c where c.claim_id = any(p_claims);
  perform lock_partitions(touched);
  missing := (select count(*) from claim c join member_life l using (life_id)
               where c.claim_id = any(p_claims) and c.state = 'open'
                 and l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation) < cardinality(p_claims);
  perform write_mark(c.claim_id, m.started, m.applied)
     from unnest(p_claims, p_started, p_applied) as m (claim_id, started, applied)
     join claim c on c.claim_id = m.claim_id and c.state = 'open'
     join member_life l on l.life_id = c.life_id
    where l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation
    order by c.claim_id;
  if missing and life_over(p_group, p_slot, p_incarnation) then
    return query select null::bigint, null::text, null::integer, null::text, null::bigint, true;
  end if;
  return query
    select p.partition_id, p.topic_id, p.number, p.topic, fold(p.partition_id), false
      from partition p where p.partition_id = any(touched);
  if missing then  -- asked again after a lost answer: their rows are gone, their partitions are those of the life
    return query
      select p.partition_id, p.topic_id, p.number, p.topic, p.frontier, false
        from partition p join member_life l on l.life_id = p.last_life_id
       where l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation
         and p.partition_id <> all(touched);
  end if;
end $$;

create or replace function kafka_exactly.write_mark(p_claim bigint, p_started bigint, p_applied bigint) returns boolean
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- S4: `greatest`, and a condition on the claim's own row, looked at again after any wait for its lock.
declare c claim;
begin
  update claim
     set started = least(range_stop, greatest(started, p_started, p_applied)),
         applied = least(range_stop, greatest(applied, p_applied)),
         state = case when greatest(applied, p_applied) >= range_stop then 'settled' else 'open' end
   where claim_id = p_claim and state = 'open'
  returning * into c;
  if c.state = 'settled' and c.doubt_id is not null then
    update doubt set state = 'closed', outcome = 'redone', closed_at = clock_timestamp(), version = version + 1
     where doubt_id = c.doubt_id and state = 'claimed';
    perform note('doubt', c.doubt_id, 'redone', life_name(c.life_id));
    delete from claim where claim_id = p_claim;  -- the closed doubt says from now on that its records are settled
  end if;
  return c.claim_id is not null;
end $$;
