-- What the test build's functions call between any two statements, and how the harness goes back to a scene.

create schema interleaving;

create function interleaving.stop(p_function text, p_number integer) returns boolean language plpgsql as $$
-- `interleaving.at`: '' (go on), 'trace' (tell), or the number of the pass at which to wait for the advisory lock of this
-- session, which the harness holds.
declare
  at text := current_setting('interleaving.at', true);
  passed integer;
  key bigint;
begin
  if at is null or at = '' then
    return true;
  end if;
  passed := coalesce(nullif(current_setting('interleaving.passed', true), ''), '0')::integer + 1;
  perform set_config('interleaving.passed', passed::text, false);
  if at = 'trace' then
    raise notice 'passes %:%', p_function, p_number;
  elsif passed = at::integer then
    key := current_setting('interleaving.key')::bigint;
    raise notice 'stops %:%', p_function, p_number;
    perform pg_advisory_lock(key);
    perform pg_advisory_unlock(key);
  end if;
  return true;
end $$;

create function interleaving.columns_of(p_table regclass) returns text language sql as $$
  select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
   where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
$$;

create function interleaving.ledger_tables() returns setof regclass language sql as $$
  select c.oid::regclass from pg_class c where c.relnamespace = 'kafka_exactly'::regnamespace and c.relkind = 'r'
     and c.relname not in ('schema_version', 'audit') order by c.relname
$$;

create function interleaving.keep(p_scene text) returns void language plpgsql as $$
-- `restore` is for a session whose `session_replication_role` is `replica` for good: to set that each time would throw away the
-- plans of all these statements, and planning them is most of their cost.
declare t regclass;
begin
  execute format('create schema %I', p_scene);
  for t in select interleaving.ledger_tables() loop
    execute format('create table %I.%I as select %s from %s', p_scene, split_part(t::text, '.', 2),
                   interleaving.columns_of(t), t);
  end loop;
  execute format(
    'create function %I.restore() returns void language plpgsql as %L', p_scene,
    (select 'begin '
         || string_agg(format('delete from %1$s; insert into %1$s (%2$s) overriding system value select %2$s from %3$I.%4$I; ',
                              x, interleaving.columns_of(x), p_scene, split_part(x::text, '.', 2)), '')
         || ' end'
       from interleaving.ledger_tables() x));
end $$;
