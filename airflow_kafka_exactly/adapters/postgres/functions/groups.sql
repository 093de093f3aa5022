-- Whose a consumer group is. A slot is named by its task inside of its group, so two tasks in one group would take each other's
-- slots, and each would run the other's released doubts.

create or replace function kafka_exactly.own_group(p_group text, p_dag text, p_task text) returns void
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
-- The first life's task owns the group. The row is locked, so that nobody moves the group while a life of it is being opened.
declare owned group_owner;
begin
  insert into group_owner (group_id, dag_id, task_id) values (p_group, p_dag, p_task) on conflict do nothing;
  select * into owned from group_owner where group_id = p_group for share;
  if (owned.dag_id, owned.task_id) <> (p_dag, p_task) then
    raise exception '%', format(
      'consumer group %L belongs to DAG %L, task %L; this is DAG %L, task %L. Give the operator a group_id of its own; if DAG or '
      'task were renamed: airflow kafka-exactly groups move', p_group, owned.dag_id, owned.task_id, p_dag, p_task)
      using errcode = 'KX006';
  end if;
end $$;

create or replace function kafka_exactly.move_group(p_group text, p_dag text, p_task text, p_by text)
returns table (dag_id text, task_id text)
language plpgsql set search_path = kafka_exactly, pg_catalog, pg_temp as $$
#variable_conflict use_column
-- For a DAG or task that was renamed. Returns whose it was, no row when that was not known.
declare
  owned group_owner;
  alive text;
begin
  if not exists (select from member_life where group_id = p_group) then
    raise exception '%', format('consumer group %L is not known to the ledger', p_group) using errcode = 'KX007';
  end if;
  -- Whoever opens the first life of a task here waits at this row, or is waited for: then its life is seen below.
  insert into group_owner (group_id, dag_id, task_id) values (p_group, p_dag, p_task) on conflict do nothing;
  if not found then
    select * into owned from group_owner where group_id = p_group for update;
  end if;
  select life_name(life_id) into alive from member_life
   where group_id = p_group and state in ('current', 'superseded') and lease_until > clock_timestamp() limit 1;
  if alive is not null then
    raise exception '%', format('consumer group %L is at work (%s): end its task first', p_group, alive) using errcode = 'KX006';
  end if;
  update group_owner set dag_id = p_dag, task_id = p_task, recorded_at = clock_timestamp() where group_id = p_group;
  perform note('group', 0, 'moved', p_by, jsonb_build_object('group', p_group, 'from', to_jsonb(owned), 'dag', p_dag, 'task', p_task));
  return query select owned.dag_id, owned.task_id where owned.group_id is not null;
end $$;
