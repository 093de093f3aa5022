create or replace function kafka_exactly.open_life(
  p_group text, p_cluster text, p_slot text, p_owner text, p_kind text, p_process text, p_lease_s double precision,
  p_check jsonb, p_kafka_connection text, p_dag text, p_task text) returns bigint
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare
  old member_life;
  new_incarnation bigint;
  new_id bigint;
  left_s double precision;
begin
  if p_dag <> '' then
    perform own_group(p_group, p_dag, p_task);
  end if;
  -- Two processes that open the same slot for the first time have no row to meet on.
  perform pg_advisory_xact_lock(hashtextextended(p_group || chr(10) || p_slot, 7001));
  select * into old from member_life where group_id = p_group and slot = p_slot and state = 'current' for no key update;
  if old.life_id is not null then
    left_s := extract(epoch from old.lease_until - clock_timestamp());
    if old.owner <> p_owner and left_s > 0 then
      raise exception 'slot % is held by %', p_slot, old.owner
        using errcode = 'KX003', detail = json_build_object('holder', old.owner, 'left_s', left_s);
    end if;
    -- It keeps its lease: its marks count until it is fenced, which is only after that (H2).
    update member_life set state = 'superseded' where life_id = old.life_id;
    perform note('life', old.life_id, 'superseded', p_process);
  end if;
  select coalesce(max(incarnation), 0) + 1 into new_incarnation from member_life where group_id = p_group and slot = p_slot;
  insert into member_life (group_id, slot, incarnation, cluster_id, owner, kind, process, lease_until, check_reference,
                           kafka_connection)
  values (p_group, p_slot, new_incarnation, p_cluster, p_owner, p_kind, p_process,
          clock_timestamp() + make_interval(secs => p_lease_s), p_check, p_kafka_connection)
  returning life_id into new_id;
  perform note('life', new_id, 'opened', p_process, jsonb_build_object('slot', p_slot, 'incarnation', new_incarnation));
  return new_incarnation;
end $$;
