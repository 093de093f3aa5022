-- The ledger's tables (DESIGN 7). `kafka_exactly` stands for the configured schema.
--
-- Invariants that the functions keep and the constraints back:
--   claims of a partition never overlap, in whatever state (S5);
--   doubts of a partition never overlap: a closed one is settled for good, so nobody doubts its records again;
--   everything below `partition.frontier` is settled or an unclosed doubt whose payload is stored (S2).

create table leader_epoch (
  only_row  boolean primary key default true check (only_row),
  epoch     bigint not null,
  leader    text not null,
  raised_at timestamptz not null default clock_timestamp()
);
insert into leader_epoch (epoch, leader) values (0, '');

create table member_life (
  life_id     bigint generated always as identity primary key,
  group_id    text not null,
  slot        text not null,
  incarnation bigint not null,
  cluster_id  text not null,
  owner       text not null,
  kind        text not null,
  process     text not null,
  -- current: may claim; superseded: a later life of the slot is open, marks still count until the fence
  state       text not null default 'current' check (state in ('current', 'superseded', 'fenced', 'closed')),
  lease_until timestamptz not null,
  opened_at   timestamptz not null default clock_timestamp(),
  ended_at    timestamptz,
  check_reference jsonb not null,
  kafka_connection text not null,
  unique (group_id, slot, incarnation)
) with (fillfactor = 70);
create unique index member_life_current on member_life (group_id, slot) where state = 'current';
create index member_life_not_over on member_life (life_id) where state in ('current', 'superseded');

create table partition (
  partition_id bigint generated always as identity primary key,
  group_id     text not null,
  cluster_id   text not null,
  topic        text not null,
  topic_id     text not null,
  number       integer not null,
  frontier     bigint not null,
  -- what the group's committed offset was last known to be (S8)
  committed    bigint not null,
  -- the life that was assigned the partition last: a sweep leaves orphans to it while it may still commit
  last_life_id bigint references member_life on delete set null,
  opened_at    timestamptz not null default clock_timestamp(),
  unique (group_id, cluster_id, topic_id, number)
) with (fillfactor = 70);

create table claim (
  claim_id     bigint generated always as identity primary key,
  partition_id bigint not null references partition,
  life_id      bigint not null references member_life,
  epoch        bigint not null,
  range_start  bigint not null,
  range_stop   bigint not null,
  started      bigint not null,
  applied      bigint not null,
  -- what was given back or fenced is no row any more; what was applied is settled, and gone when the frontier has passed it
  state        text not null default 'open' check (state in ('open', 'settled')),
  unit         boolean not null default false,
  doubt_id     bigint,
  attempt      uuid not null,
  claimed_at   timestamptz not null default clock_timestamp(),
  check (0 <= range_start and range_start < range_stop),
  check (range_start <= applied and applied <= started and started <= range_stop),
  exclude using gist (partition_id with =, int8range(range_start, range_stop) with &&)
) with (fillfactor = 70);
create index claim_place on claim (partition_id, range_start);
create index claim_life on claim (life_id);

create table doubt (
  doubt_id     bigint generated always as identity primary key,
  partition_id bigint not null references partition,
  range_start  bigint not null,
  range_stop   bigint not null,
  -- the records in the range; what is below or above them is a gap of the log
  first_record bigint not null,
  last_record  bigint not null,
  unit         boolean not null,
  kind         text not null check (kind in ('vote', 'collision', 'window', 'raised')),
  kind_since   timestamptz not null default clock_timestamp(),
  state        text not null default 'open' check (state in ('open', 'released', 'claimed', 'closed')),
  -- the payload is stored up to here: a polled batch may hold only a part of a unit
  stored_to    bigint not null,
  durable      boolean not null generated always as (stored_to >= range_stop) stored,
  -- an applied mark of the claim it collided with has passed it
  settled      boolean not null default false,
  life_id      bigint references member_life,
  written_by   bigint references member_life,
  claim_id     bigint,
  version      integer not null default 1,
  verdict      text check (verdict in ('applied', 'not_applied', 'unknown')),
  outcome      text check (outcome in ('discarded', 'redone', 'dead_letter', 'no_record')),
  evidence     jsonb,
  decided_by   text,
  reason       text not null,
  announced_at timestamptz,
  quiet_until  timestamptz,
  created_at   timestamptz not null default clock_timestamp(),
  closed_at    timestamptz,
  check (0 <= range_start and range_start < range_stop),
  check (range_start <= first_record and first_record <= last_record and last_record < range_stop),
  check ((state = 'closed') = (outcome is not null)),
  exclude using gist (partition_id with =, int8range(range_start, range_stop) with &&)
) with (fillfactor = 70);
create index doubt_place on doubt (partition_id, range_start);
create index doubt_unclosed on doubt (partition_id, state) where state <> 'closed';
create index doubt_in_question on doubt (partition_id)
  where state = 'open' and kind in ('vote', 'collision') and not settled;

create table doubt_record (
  doubt_id      bigint not null references doubt,
  record_offset bigint not null,
  key           bytea,
  value         bytea,
  -- bytes, because a header's name may hold a zero byte
  header_names  bytea[] not null,
  header_values bytea[] not null,
  timestamp_ms  bigint not null,
  primary key (doubt_id, record_offset)
);

create table orphan_commit (
  orphan_id    bigint generated always as identity primary key,
  partition_id bigint not null references partition,
  range_start  bigint not null,
  range_stop   bigint not null,
  reason       text not null,
  state        text not null default 'open' check (state in ('open', 'superseded', 'member', 'altered')),
  drained_by   text,
  created_at   timestamptz not null default clock_timestamp(),
  closed_at    timestamptz,
  check (range_start < range_stop)
);
create index orphan_commit_place on orphan_commit (partition_id, range_stop);
create index orphan_commit_open on orphan_commit (partition_id) where state = 'open';

create table dead_letter (
  dead_letter_id bigint generated always as identity primary key,
  partition_id   bigint not null references partition,
  record_offset  bigint not null,
  key            bytea,
  value          bytea,
  header_names   bytea[] not null,
  header_values  bytea[] not null,
  timestamp_ms   bigint not null,
  reason         text not null,
  attempts       integer not null,
  doubt_id       bigint references doubt,
  buried_by      text not null,
  buried_at      timestamptz not null default clock_timestamp(),
  unique (partition_id, record_offset)
);

create table audit (
  audit_id  bigint generated always as identity primary key,
  at        timestamptz not null default clock_timestamp(),
  entity    text not null,
  entity_id bigint not null,
  change    text not null,
  by        text not null,
  detail    jsonb
);
create index audit_entity on audit (entity, entity_id);

create function audit_is_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'the audit trail is append-only';
end $$;
create trigger audit_append_only before update or delete or truncate on audit
  for each statement execute function audit_is_append_only();
