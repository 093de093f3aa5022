-- A window of which nobody knows yet which offsets hold a record is one row. It is split when its payload comes.
alter table doubt add column unlisted boolean not null default false;
