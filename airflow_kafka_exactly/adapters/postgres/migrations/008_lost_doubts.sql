-- A doubt whose payload never came and cannot come any more: nobody knows whether its effect happened, and nothing runs (L2).
alter table doubt drop constraint doubt_outcome_check;
alter table doubt add constraint doubt_outcome_check
  check (outcome in ('discarded', 'redone', 'dead_letter', 'no_record', 'lost'));
create index doubt_lost on doubt (partition_id) where outcome = 'lost';
create index doubt_without_payload on doubt (partition_id) where state <> 'closed' and not durable;
