-- Announcing looks at open doubts only, the one that waited longest first; closed ones are history and may be very many.
create index doubt_announce on doubt (announced_at nulls first, doubt_id) where state = 'open';
