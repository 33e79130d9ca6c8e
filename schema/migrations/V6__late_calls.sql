-- Calls that arrive late: after their caller has given them up, and done something else.

alter table worker add column claims_refused bigint not null default 0;
comment on column worker.claims_refused is 'Claims of this worker with this number or a lower one take nothing any more.';

alter table progress add column attempt integer not null default 0, add column number bigint not null default 0;
comment on column progress.attempt is 'The attempt whose handler reported the value; an earlier attempt''s does not replace it.';
comment on column progress.number is 'Number of the call that stored it, of its worker''s; a call with a lower one does not replace it.';
