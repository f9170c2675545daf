-- What the node registry remembers: one row a node, one row a drain. Apply once, as the project's owner
-- (supabase db push, the SQL editor, or psql); a second time changes nothing.
--
-- A row with deleted_at is a tombstone: the node (or the drain) is gone. Tombstones are purged after an hour.
-- Who may what: service_role everything; anon and authenticated nothing, because documents name hosts and addresses.
-- To show nodes to people, publish a view of your own with the columns you mean to show.

create table if not exists public.compute_nodes (
  node_id    text collate "C" primary key check (node_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
  record     jsonb,
  tier       text,
  status     text,
  deleted_at timestamptz,
  updated_at timestamptz not null default now(),
  hostname   text generated always as (record -> 'document' ->> 'hostname') stored,
  constraint compute_nodes_is_whole check ((record is null) = (deleted_at is not null))
);
comment on table public.compute_nodes is 'Nodes as the node registry last stored them; the live truth is its REST and NATS query';

create table if not exists public.compute_drains (
  node_id    text collate "C" primary key check (node_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
  changed_at timestamptz not null,
  deleted_at timestamptz,
  updated_at timestamptz not null default now()
);
comment on table public.compute_drains is 'Nodes an operator drains; deleted_at: the drain was lifted';

create index if not exists compute_nodes_live on public.compute_nodes (tier, status) where deleted_at is null;
create index if not exists compute_nodes_deleted on public.compute_nodes (deleted_at) where deleted_at is not null;
create index if not exists compute_drains_deleted on public.compute_drains (deleted_at) where deleted_at is not null;

create or replace function public.compute_set_updated_at() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := pg_catalog.now();
  return new;
end
$$;

drop trigger if exists compute_nodes_updated_at on public.compute_nodes;
create trigger compute_nodes_updated_at before update on public.compute_nodes
  for each row execute function public.compute_set_updated_at();
drop trigger if exists compute_drains_updated_at on public.compute_drains;
create trigger compute_drains_updated_at before update on public.compute_drains
  for each row execute function public.compute_set_updated_at();

alter table public.compute_nodes enable row level security;
alter table public.compute_drains enable row level security;

-- Supabase grants everything in public to every role by default; row-level security alone would answer "no rows".
revoke all on public.compute_nodes, public.compute_drains from public, anon, authenticated;
grant select, insert, update, delete on public.compute_nodes, public.compute_drains to service_role;
revoke all on function public.compute_set_updated_at() from public, anon, authenticated;

drop policy if exists compute_nodes_service on public.compute_nodes;
create policy compute_nodes_service on public.compute_nodes for all to service_role using (true) with check (true);
drop policy if exists compute_drains_service on public.compute_drains;
create policy compute_drains_service on public.compute_drains for all to service_role using (true) with check (true);
