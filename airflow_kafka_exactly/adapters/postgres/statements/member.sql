-- name: open_life
select kafka_exactly.open_life(%(group)s, %(cluster)s, %(slot)s, %(owner)s, %(kind)s, %(process)s, %(lease_s)s, %(check)s,
                               %(kafka_connection)s, %(dag)s, %(task)s)

-- name: move_group
select dag_id, task_id from kafka_exactly.move_group(%(group)s, %(dag)s, %(task)s, %(by)s)

-- name: renew
update kafka_exactly.member_life set lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
 where group_id = %(group)s and slot = %(slot)s and incarnation = %(incarnation)s and state = 'current'

-- name: close_life
select kafka_exactly.close_life(%(group)s, %(slot)s, %(incarnation)s)

-- name: current_incarnation
select coalesce(max(incarnation), 0) from kafka_exactly.member_life where group_id = %(group)s and slot = %(slot)s

-- name: last_owner
select coalesce((select owner from kafka_exactly.member_life where group_id = %(group)s and slot = %(slot)s
                  order by incarnation desc limit 1), '')

-- name: open_partitions
select topic_id, number, topic, start
  from kafka_exactly.open_partitions(%(group)s, %(slot)s, %(incarnation)s, %(cluster)s, %(openings)s)

-- name: claim
select part, what, range_start, range_stop, id
  from kafka_exactly.claim(%(group)s, %(slot)s, %(incarnation)s, %(epoch)s, %(step)s, %(unit)s, %(parts)s)

-- name: record_lost
select kafka_exactly.record_lost(%(group)s, %(slot)s, %(incarnation)s, %(lost)s)

-- name: store_payload
select kafka_exactly.store_payload(%(group)s, %(slot)s, %(incarnation)s, %(topic_id)s, %(number)s, %(start)s, %(stop)s,
       row(%(offsets)s::bigint[], %(keys)s::bytea[], %(contents)s::bytea[], %(timestamps)s::bigint[],
           %(header_of)s::bigint[], %(header_names)s::bytea[], %(header_values)s::bytea[])::kafka_exactly.payload)

-- name: fold
select kafka_exactly.fold_alone(%(partition)s)

-- name: mark
select topic_id, number, topic, frontier, refused
  from kafka_exactly.mark(%(group)s, %(slot)s, %(incarnation)s, %(claims)s::bigint[], %(started)s::bigint[], %(applied)s::bigint[])

-- name: give_back
select kafka_exactly.give_back(%(group)s, %(slot)s, %(incarnation)s, %(claim)s, %(start)s,
                               %(failing)s::bigint[], %(stops)s::bigint[], %(attempts)s::integer[], %(for_s)s::double precision[])

-- name: failing
select f.record_offset, f.range_stop, f.attempts, extract(epoch from clock_timestamp() - f.since)::double precision
  from kafka_exactly.claim c join kafka_exactly.failing f using (partition_id)
 where c.claim_id = %(claim)s and c.state = 'open' and f.record_offset >= c.range_start and f.record_offset < c.range_stop
 order by f.record_offset

-- name: raise_doubt
select kafka_exactly.raise_doubt(%(group)s, %(slot)s, %(incarnation)s, %(claim)s, %(first)s, %(stop)s, %(reason)s,
       row(%(offsets)s::bigint[], %(keys)s::bytea[], %(contents)s::bytea[], %(timestamps)s::bigint[],
           %(header_of)s::bigint[], %(header_names)s::bytea[], %(header_values)s::bytea[])::kafka_exactly.payload)

-- name: bury
select kafka_exactly.bury(%(group)s, %(slot)s, %(incarnation)s, %(claim)s, %(first)s, %(stop)s, %(reason)s, %(attempts)s,
       row(%(offsets)s::bigint[], %(keys)s::bytea[], %(contents)s::bytea[], %(timestamps)s::bigint[],
           %(header_of)s::bigint[], %(header_names)s::bytea[], %(header_values)s::bytea[])::kafka_exactly.payload)

-- name: claim_released
select c.claim_id, c.range_start, c.range_stop, c.started, c.applied, c.unit, c.doubt_id, p.topic_id, p.number, p.topic
  from kafka_exactly.claim_released(%(group)s, %(slot)s, %(incarnation)s, %(epoch)s, %(step)s, %(limit)s) c
  join kafka_exactly.partition p using (partition_id) order by c.range_start, p.topic_id, p.number

-- name: payloads
select doubt_id, record_offset, key, value, header_names, header_values, timestamp_ms
  from kafka_exactly.doubt_record where doubt_id = any(%(doubts)s::bigint[]) order by doubt_id, record_offset

-- name: begin_effect
select outcome, partition_id, transaction_id
  from kafka_exactly.begin_effect(%(group)s, %(slot)s, %(incarnation)s, %(claim)s, %(applied)s)

-- name: committed
select kafka_exactly.committed(%(group)s, %(by)s, %(offsets)s)

-- name: refused
select kafka_exactly.refused(%(group)s, %(offsets)s, %(reason)s)

-- name: frontier_of_claim
select frontier from kafka_exactly.partition
 where group_id = %(group)s and topic_id = %(topic_id)s and number = %(number)s order by partition_id desc limit 1

-- name: frontiers
select topic_id, number, topic, frontier from kafka_exactly.partition
 where group_id = %(group)s and topic = any(%(topics)s)

-- name: released_count
select count(*) from kafka_exactly.doubt d join kafka_exactly.partition p using (partition_id)
 where p.group_id = %(group)s and d.state = 'released' and d.durable
