-- name: announce
-- Whoever waited longest has its turn first: doubts that nothing closes must not starve the others (L1). An index for each half:
-- neither those that are held nor those that had their turn just now are read.
with waiting as (
  select doubt_id, announced_at from kafka_exactly.doubt
   where state = 'open' and quiet_until is null
     and coalesce(announced_at, '-infinity') <= statement_timestamp() - make_interval(secs => %(again_s)s)
   order by coalesce(announced_at, '-infinity'), doubt_id limit %(limit)s for update skip locked),
no_longer_held as (
  select doubt_id, announced_at from kafka_exactly.doubt
   where state = 'open' and quiet_until <= statement_timestamp()
     and coalesce(announced_at, '-infinity') <= statement_timestamp() - make_interval(secs => %(again_s)s)
   order by quiet_until, doubt_id limit %(limit)s for update skip locked)
update kafka_exactly.doubt set announced_at = clock_timestamp(), quiet_until = null
 where doubt_id in (
   select doubt_id from (select * from waiting union all select * from no_longer_held) as due
    order by announced_at nulls first, doubt_id limit %(limit)s)
returning doubt_id

-- name: hold
update kafka_exactly.doubt d
   set quiet_until = case when %(for_s)s::float8 > 0 then clock_timestamp() + make_interval(secs => %(for_s)s) end,
       announced_at = case when %(for_s)s::float8 > 0 then announced_at end
  from unnest(%(doubts)s::bigint[], %(versions)s::integer[]) as asked (doubt_id, version)
 where d.doubt_id = asked.doubt_id and d.version = asked.version and d.state = 'open'

-- name: facts_of
-- The life in question is that of the open claim over the record, if there is one, else the one the doubt was written about.
select d.doubt_id, d.version, p.group_id, p.cluster_id, p.topic_id, p.number, p.topic, d.range_start, d.range_stop,
       d.unit, d.kind, d.state, d.durable, l.slot, l.incarnation,
       d.settled or (d.kind in ('vote', 'collision') and exists (
         select from kafka_exactly.claim c
          where c.partition_id = d.partition_id and c.doubt_id is null and c.range_start <= d.first_record
            and d.last_record < case when c.state = 'settled' then c.range_stop else c.applied end)) as settled,
       held.claim_id, coalesce(held.started > d.first_record, false),
       case when l.state in ('current', 'superseded')
            then extract(epoch from l.lease_until - clock_timestamp())::float8 else 0 end as lease_left_s,
       case when l.life_id is null then 0
            else greatest(0, extract(epoch from clock_timestamp() - least(l.lease_until, l.ended_at))::float8) end as since_s,
       extract(epoch from clock_timestamp() - d.kind_since)::float8 as age_s,
       not d.durable and p.committed > greatest(d.stored_to, d.first_record) as passed,
       not exists (select from kafka_exactly.member_life o
                    where o.life_id = p.last_life_id and o.state in ('current', 'superseded')) as unread,
       coalesce(latest.check_reference, l.check_reference, w.check_reference), d.reason
  from kafka_exactly.doubt d
  join kafka_exactly.partition p using (partition_id)
  left join lateral (
    select c.claim_id, c.life_id, c.started from kafka_exactly.claim c
     where c.partition_id = d.partition_id and c.state = 'open' and c.doubt_id is distinct from d.doubt_id
       and c.range_start <= d.last_record and c.range_stop > d.first_record and c.applied <= d.last_record
     order by c.range_start limit 1) held on true
  left join kafka_exactly.member_life l on l.life_id = coalesce(held.life_id, d.life_id)
  left join kafka_exactly.member_life w on w.life_id = d.written_by
  -- A check that was repaired and deployed since counts for old doubts too.
  left join lateral (
    select x.check_reference from kafka_exactly.member_life x
     where x.group_id = p.group_id and x.slot = coalesce(l.slot, w.slot) and x.kind = 'worker'
     order by x.incarnation desc limit 1) latest on true
 where d.doubt_id = any(%(doubts)s::bigint[])
 order by d.doubt_id

-- name: find
select d.doubt_id from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
 where p.group_id = %(group)s and p.topic = %(topic)s and p.number = %(number)s and d.state <> 'closed'
   and int8range(d.range_start, d.range_stop) && int8range(%(start)s, %(stop)s)
 order by d.doubt_id

-- name: payload
select record_offset, key, value, header_names, header_values, timestamp_ms
  from kafka_exactly.doubt_record where doubt_id = %(doubt)s order by record_offset

-- name: decide
select kafka_exactly.decide(%(doubt)s, %(version)s, %(verdict)s, %(by)s, %(evidence)s, %(dead_letter)s)
