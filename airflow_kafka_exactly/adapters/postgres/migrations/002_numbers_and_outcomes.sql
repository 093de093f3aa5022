-- Which claim's applied mark covered the records of a doubt, kept when that claim's row goes: what `reconcile` finds a record
-- with two outcomes by, whatever the functions made of it.

alter table doubt add column applied_by bigint;

create function keep_applied() returns trigger language plpgsql as $$
begin
  return null;  -- the functions replace it, as they are loaded with each `migrate`
end $$;
create trigger claim_keep_applied after delete on claim
  for each row when (old.state = 'settled' and old.doubt_id is null) execute function keep_applied();

-- The number of the last question of a life that granted or judged; a claim keeps which of them granted it. A number names a
-- question within its life, so the attempts' uuids are not needed any more.

alter table member_life add column step bigint not null default 0;
alter table claim add column step bigint not null default 0, drop column attempt;
