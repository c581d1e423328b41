-- The role under which walvec reads the source: it follows a slot and reads the tables named here, nothing more.
--
--   psql -d app -f source.sql -v role=walvec -v schemas=public -v tables='public.blog, public.page' -v publication=walvec
--
-- Run it as a superuser; safe to repeat. Where a provider keeps superusers to itself, leave ALTER ROLE out and grant
-- the provider's own role instead (Amazon: GRANT rds_replication TO walvec), as the tables' owner with the right to
-- CREATE in the database. The password is yours to set: \password walvec
--
-- Then `walvec setup` finds the publication and makes the slot, which REPLICATION allows.
\set ON_ERROR_STOP on

-- CREATE ROLE knows no IF NOT EXISTS.
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role')
\gexec

-- LOGIN, and REPLICATION for the slot: whoever has that can stream every change of the server's databases that it may
-- connect to. So no password of it belongs anywhere but with walvec, and pg_hba.conf should say from where it comes.
ALTER ROLE :"role" LOGIN REPLICATION;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";

-- The existing rows, and those that the stream carries in part only.
GRANT USAGE ON SCHEMA :schemas TO :"role";
GRANT SELECT ON :tables TO :"role";

-- Row-level security would hide rows that the stream carries all the same; walvec refuses to read half a table.
-- ALTER ROLE :"role" BYPASSRLS;

-- Only an owner can publish a table, so the publication belongs to whoever runs this, and walvec just reads which
-- tables it names. One more table later, by its owner: ALTER PUBLICATION walvec ADD TABLE public.page
SELECT format('CREATE PUBLICATION %I FOR TABLE ', :'publication') || :'tables'
WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = :'publication')
\gexec
