-- A claim whose answer was lost may reach the server late, when the worker has asked already what it took.

alter table worker add column claims_refused bigint not null default 0;
comment on column worker.claims_refused is 'Claims of this worker with this number or a lower one take nothing any more.';
