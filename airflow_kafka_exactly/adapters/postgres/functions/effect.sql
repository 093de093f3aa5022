create or replace function kafka_exactly.begin_effect(
  p_group text, p_slot text, p_incarnation bigint, p_claim bigint, p_applied bigint)
returns table (outcome text, partition_id bigint, transaction_id text)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
#variable_conflict use_column
-- The first statement of an effect's own transaction: the applied mark, under the claim's row lock, which a fence and every
-- other mark wait for (H7). The partition is not locked, others go on claiming from it; folding follows in a transaction of its own.
declare
  c claim;
  left_ms bigint;
begin
  select cl.* into c from claim cl join member_life l using (life_id)
   where cl.claim_id = p_claim and cl.state = 'open'
     and l.group_id = p_group and l.slot = p_slot and l.incarnation = p_incarnation for update of cl;
  if c.claim_id is null or c.applied >= p_applied then
    return query select case when c.claim_id is null and life_over(p_group, p_slot, p_incarnation)
                             then 'fenced' else 'applied' end, c.partition_id, '';
    return;
  end if;
  perform write_mark(p_claim, p_applied, p_applied);
  select greatest(1000, 800 * extract(epoch from lease_until - clock_timestamp()))::bigint into left_ms
    from member_life where life_id = c.life_id;
  perform set_config('idle_in_transaction_session_timeout', left_ms::text, true);  -- below the lease
  return query select case when p_applied >= c.range_stop then 'settles' else 'begun' end, c.partition_id,
                      pg_current_xact_id()::text;
end $$;

create or replace function kafka_exactly.fold_alone(p_partition bigint) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
begin
  perform lock_partitions(array[p_partition]);
  return fold(p_partition);
end $$;
