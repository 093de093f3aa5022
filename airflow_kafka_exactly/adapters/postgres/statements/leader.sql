-- name: raise_epoch
select kafka_exactly.raise_epoch(%(leader)s)

-- name: groups
select group_id from kafka_exactly.partition union select group_id from kafka_exactly.member_life order by 1

-- name: kafka_connection
select kafka_connection from kafka_exactly.member_life
 where group_id = %(group)s and kafka_connection <> '' order by life_id desc limit 1

-- name: cluster_of
select cluster_id from kafka_exactly.partition where group_id = %(group)s order by opened_at desc limit 1

-- name: load
-- Every unfolded claim, unclosed doubt and orphan (S6).
select p.topic_id, p.number, p.topic, x.range_start, x.range_stop
  from kafka_exactly.partition p
  join lateral (
    -- What the frontier has passed is settled, and its range may be a wide gap of the log.
    select greatest(range_start, p.frontier) as range_start, range_stop from kafka_exactly.claim
     where partition_id = p.partition_id and range_stop > p.frontier
    union all
    select range_start, range_stop from kafka_exactly.doubt where partition_id = p.partition_id and state <> 'closed'
    union all
    select p.committed, p.frontier where p.committed < p.frontier) as x on true
 where p.group_id = %(group)s
 order by p.topic_id, p.number, x.range_start

-- name: facts
-- One statement, one snapshot. 1: settled, 2: claimed, 3: doubted (the values of `Fact`); a later row wins.
with place as (
  select partition_id, frontier from kafka_exactly.partition
   where group_id = %(group)s and topic_id = %(topic_id)s and number = %(number)s order by opened_at desc limit 1),
asked as (select int8range(%(low)s, %(high)s) as r)
select 1 as fact, 0 as range_start, frontier as range_stop from place
union all
select 1, c.range_start, case when c.state = 'settled' then c.range_stop else c.applied end
  from kafka_exactly.claim c, place p, asked
 where c.partition_id = p.partition_id and int8range(c.range_start, c.range_stop) && r
union all
select 2, c.applied, c.range_stop from kafka_exactly.claim c, place p, asked
 where c.partition_id = p.partition_id and int8range(c.range_start, c.range_stop) && r and c.state = 'open'
union all
select case when d.state = 'closed' then 1 else 3 end, d.range_start, d.range_stop from kafka_exactly.doubt d, place p, asked
 where d.partition_id = p.partition_id and int8range(d.range_start, d.range_stop) && r
 order by 1

-- name: progress
select topic_id, number, topic, frontier from kafka_exactly.partition where group_id = %(group)s

-- name: released_count
select count(*) from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
 where p.group_id = %(group)s and d.state = 'released' and d.durable

-- name: over
select l.group_id, l.slot, l.incarnation
  from unnest(%(groups)s::text[], %(slots)s::text[], %(incarnations)s::bigint[]) as asked (group_id, slot, incarnation)
  join kafka_exactly.member_life l using (group_id, slot, incarnation)
 where l.state in ('fenced', 'closed')

-- name: overdue
select group_id, slot, incarnation, extract(epoch from clock_timestamp() - lease_until)::float8
  from kafka_exactly.member_life where state in ('current', 'superseded') and lease_until < clock_timestamp()
 order by lease_until

-- name: fence
select kafka_exactly.fence(%(epoch)s, %(group)s, %(slot)s, %(incarnation)s)

-- name: sweep_orphans
select kafka_exactly.sweep_orphans(%(epoch)s)

-- name: open_orphans
select o.orphan_id, p.group_id, p.topic_id, p.number, p.topic, o.range_start, o.range_stop, o.reason, o.state
  from kafka_exactly.orphan_commit o join kafka_exactly.partition p using (partition_id)
 where o.state = 'open' order by o.orphan_id

-- name: read_back
select o.orphan_id, p.group_id, p.topic_id, p.number, p.topic, o.range_start, o.range_stop, o.reason, o.state
  from kafka_exactly.orphan_commit o join kafka_exactly.partition p using (partition_id)
 where o.orphan_id = any(%(orphans)s::bigint[]) order by o.orphan_id

-- name: reopened
select kafka_exactly.read_back(%(epoch)s, %(group)s, %(offsets)s)

-- name: without_payload
select distinct p.topic_id, p.number, p.topic
  from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
 where p.group_id = %(group)s and d.state <> 'closed' and not d.durable
 order by 1, 2

-- name: close_lost
select kafka_exactly.close_lost_of(%(epoch)s, %(group)s, %(places)s, %(reason)s)

-- name: close_orphan
select kafka_exactly.close_orphan(%(epoch)s, %(orphan)s, %(state)s)
