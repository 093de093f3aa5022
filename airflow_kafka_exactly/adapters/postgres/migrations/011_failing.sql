-- Records that were tried in vain and given back: since when they fail, whoever tries them. Whoever tries next goes on from there.
create table failing (
  partition_id  bigint not null references partition,
  record_offset bigint not null,
  range_stop    bigint not null,
  attempts      integer not null,
  since         timestamptz not null,
  primary key (partition_id, record_offset)
);
