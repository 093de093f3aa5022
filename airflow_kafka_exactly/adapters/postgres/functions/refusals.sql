-- The guards of S4. What each says holds until the transaction ends.

create or replace function kafka_exactly.require_epoch(p_epoch bigint) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The last thing that is waited for: whoever holds the epoch while waiting for something else keeps new leaders out of office.
-- Nobody overtakes a leader that waits (an advisory lock's queue is fair, that of a row is not), and the row is read by a
-- statement after the wait, which sees what was raised meanwhile.
declare current_epoch bigint;
begin
  perform pg_advisory_xact_lock_shared(epoch_key());
  select epoch into current_epoch from leader_epoch;
  if current_epoch is distinct from p_epoch then
    raise exception 'the ledger is at epoch %, this is of epoch %', current_epoch, p_epoch using errcode = 'KX001';
  end if;
end $$;

create or replace function kafka_exactly.epoch_key() returns bigint
language sql stable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  -- One for each ledger of a database: the table's number below a number of ours.
  select (7002::bigint << 32) + 'leader_epoch'::regclass::oid::bigint
$$;

create or replace function kafka_exactly.require_current(p_group text, p_slot text, p_incarnation bigint)
returns kafka_exactly.member_life
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
declare life member_life;
begin
  select * into life from member_life
   where group_id = p_group and slot = p_slot and incarnation = p_incarnation for no key update;
  if life.life_id is null or life.state <> 'current' then
    raise exception 'life % of slot % is %', p_incarnation, p_slot, coalesce(life.state, 'unknown')
      using errcode = 'KX002';
  end if;
  return life;
end $$;

create or replace function kafka_exactly.life_over(p_group text, p_slot text, p_incarnation bigint) returns boolean
language sql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  -- A claim that is no longer open was ended by its own life (then asking again is harmless) or by the fence of that life.
  select not exists (
    select from member_life where group_id = p_group and slot = p_slot and incarnation = p_incarnation
       and state in ('current', 'superseded'))
$$;

create or replace function kafka_exactly.note(
  p_entity text, p_id bigint, p_change text, p_by text, p_detail jsonb default null) returns void
language sql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  insert into audit (entity, entity_id, change, by, detail) values (p_entity, p_id, p_change, p_by, p_detail)
$$;

create or replace function kafka_exactly.life_name(p_life bigint) returns text
language sql stable set search_path = kafka_exactly, pg_catalog, pg_temp as $$
  select slot || '#' || incarnation from member_life where life_id = p_life
$$;
