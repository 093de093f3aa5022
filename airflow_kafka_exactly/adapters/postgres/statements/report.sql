-- name: leader
select leader, epoch, raised_at from kafka_exactly.leader_epoch

-- name: members
select group_id, slot, incarnation, kind, owner, process, state,
       extract(epoch from lease_until - clock_timestamp())::float8 as lease_left_s
  from kafka_exactly.member_life where state in ('current', 'superseded') order by group_id, slot, incarnation

-- name: partitions
select group_id, cluster_id, topic, topic_id, number as partition, frontier, committed
  from kafka_exactly.partition order by group_id, topic, topic_id, number

-- name: doubt_counts
select p.group_id, d.kind, d.state, count(*) as count
  from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
 where d.state <> 'closed' group by 1, 2, 3 order by 1, 2, 3

-- name: totals
select (select count(*) from kafka_exactly.orphan_commit where state = 'open') as orphans_open,
       (select count(*) from kafka_exactly.dead_letter) as dead_letters,
       (select count(*) from kafka_exactly.doubt where outcome = 'lost') as doubts_lost,
       (select count(*) from kafka_exactly.claim where state = 'open') as claims_open

-- name: doubts
select d.doubt_id, p.group_id, p.topic, p.number as partition, d.range_start as start, d.range_stop as stop, d.unit, d.unlisted, d.kind,
       d.state, d.durable, l.slot, l.incarnation, d.version, d.verdict, d.outcome, d.decided_by, d.evidence, d.reason,
       d.created_at, d.announced_at, d.closed_at
  from kafka_exactly.doubt d
  join kafka_exactly.partition p using (partition_id) left join kafka_exactly.member_life l using (life_id)
 where (%(group)s::text is null or p.group_id = %(group)s) and (d.state <> 'closed' or not %(unclosed)s)
 order by d.doubt_id

-- name: orphans
select o.orphan_id, p.group_id, p.topic, p.number as partition, o.range_start as start, o.range_stop as stop, o.reason,
       o.state, o.drained_by, o.created_at, o.closed_at
  from kafka_exactly.orphan_commit o join kafka_exactly.partition p using (partition_id)
 where (%(group)s::text is null or p.group_id = %(group)s) and (o.state = 'open' or not %(open)s)
 order by o.orphan_id

-- name: dead_letters
select x.dead_letter_id, p.group_id, p.topic, p.number as partition, x.record_offset as "offset", x.reason, x.attempts,
       x.doubt_id, x.buried_by, x.buried_at
  from kafka_exactly.dead_letter x join kafka_exactly.partition p using (partition_id)
 where %(group)s::text is null or p.group_id = %(group)s order by x.dead_letter_id

-- name: lost
select x.lost_id, p.group_id, p.topic, p.number as partition, x.range_start as start, x.range_stop as stop,
       l.slot || '#' || l.incarnation as found_by, x.found_at
  from kafka_exactly.lost_range x join kafka_exactly.partition p using (partition_id)
  join kafka_exactly.member_life l using (life_id)
 where %(group)s::text is null or p.group_id = %(group)s order by x.lost_id

-- name: places
select partition_id, topic_id, number, topic, frontier from kafka_exactly.partition where group_id = %(group)s

-- name: outcomes
-- What the ledger says about the part of each partition that was committed: one statement, one snapshot.
with asked as (
  select * from unnest(%(places)s::bigint[], %(offsets)s::bigint[]) as a (partition_id, committed))
select a.partition_id, 'settled' as what, c.claim_id as id, c.range_start as start,
       case when c.state = 'settled' then c.range_stop else c.applied end as stop, '' as detail
  from asked a join kafka_exactly.claim c using (partition_id) where c.range_start < a.committed
union all
select a.partition_id, 'open', c.claim_id, c.applied, c.range_stop, ''
  from asked a join kafka_exactly.claim c using (partition_id) where c.state = 'open' and c.applied < a.committed
union all
select a.partition_id,
       case when d.state = 'closed' then d.outcome when d.durable then 'doubt' else 'bare doubt' end,
       d.doubt_id, d.first_record, d.last_record + 1, d.kind || ', ' || d.state
  from asked a join kafka_exactly.doubt d using (partition_id) where d.first_record < a.committed
union all
select a.partition_id, 'settled', d.applied_by, d.first_record, d.last_record + 1, 'before it was folded'
  from asked a join kafka_exactly.doubt d using (partition_id) where d.applied_by is not null and d.first_record < a.committed
union all
select a.partition_id, 'dead letter', x.dead_letter_id, x.record_offset, x.record_offset + 1, coalesce(x.doubt_id::text, '')
  from asked a join kafka_exactly.dead_letter x using (partition_id) where x.record_offset < a.committed
