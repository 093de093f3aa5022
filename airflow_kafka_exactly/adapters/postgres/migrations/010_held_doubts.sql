-- Announcing reads what is due: very many doubts may be held for a person, for a day each.
drop index doubt_announce;
create index doubt_announce on doubt (coalesce(announced_at, '-infinity'::timestamptz), doubt_id)
  where state = 'open' and quiet_until is null;
create index doubt_held on doubt (quiet_until, doubt_id) where state = 'open' and quiet_until is not null;
