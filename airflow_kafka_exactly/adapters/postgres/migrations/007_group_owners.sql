-- Whose a consumer group is: the task whose life was its first one. Groups from before have no row until their next life.
create table kafka_exactly.group_owner (
  group_id    text primary key,
  dag_id      text not null,
  task_id     text not null,
  recorded_at timestamptz not null default clock_timestamp()
);
