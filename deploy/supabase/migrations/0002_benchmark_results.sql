-- What the benchmark runner measured: one row a run that ended. Apply once, after 0001; a second time changes nothing.
-- Who may what: service_role everything; anon and authenticated nothing, because environments name hosts.

create table if not exists public.benchmark_results (
  benchmark_id text collate "C" primary key check (benchmark_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
  status       text not null,
  model_name   text not null,
  node_id      text,
  engine       text,
  cells        jsonb not null,
  environment  jsonb not null,
  request      jsonb not null,
  error        text,
  created_at   timestamptz not null,
  finished_at  timestamptz
);
comment on table public.benchmark_results is 'Benchmark runs that ended, as the benchmark runner told them; the record is its file';

create index if not exists benchmark_results_model on public.benchmark_results (model_name, finished_at desc);

alter table public.benchmark_results enable row level security;
revoke all on public.benchmark_results from public, anon, authenticated;
grant select, insert, update, delete on public.benchmark_results to service_role;
drop policy if exists benchmark_results_service on public.benchmark_results;
create policy benchmark_results_service on public.benchmark_results for all to service_role using (true) with check (true);
