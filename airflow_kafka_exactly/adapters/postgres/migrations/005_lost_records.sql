-- Offsets that were deleted from Kafka before they were read, and passed with on_lost_records="skip" (L2).

create table lost_range (
  lost_id      bigint generated always as identity primary key,
  partition_id bigint not null references partition,
  range_start  bigint not null,
  range_stop   bigint not null,
  life_id      bigint not null references member_life,
  found_at     timestamptz not null default clock_timestamp(),
  check (0 <= range_start and range_start < range_stop),
  exclude using gist (partition_id with =, int8range(range_start, range_stop) with &&)
);
