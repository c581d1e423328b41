-- The role under which walvec writes the target: its own schema walvec, and tables in one schema more.
--
--   psql -d app -f target.sql -v role=walvec -v schema=public
--
-- Run it as a superuser; safe to repeat. Where source and target are one database, give the same role as in source.sql,
-- or keep two and two dsn. The password is yours to set: \password walvec
--
-- Then `walvec setup` makes the tables, which therefore belong to the role: only an owner can build an index.
\set ON_ERROR_STOP on

CREATE EXTENSION IF NOT EXISTS vector;

-- CREATE ROLE knows no IF NOT EXISTS.
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role')
\gexec
ALTER ROLE :"role" LOGIN;

-- TEMPORARY: vectors pass through a staging table of the session.
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"role";

-- Where pgvector is in a schema of its own.
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, :'role')
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
\gexec

-- walvec's own tables: how far it is, and what could not be embedded.
SELECT format('CREATE SCHEMA walvec AUTHORIZATION %I', :'role') WHERE to_regnamespace('walvec') IS NULL
\gexec

-- The schema of the target tables. One of their own keeps walvec out of the application's:
--   CREATE SCHEMA embeddings AUTHORIZATION walvec
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"role";

-- Whoever searches reads the target tables, those of later vectorizers too:
--   ALTER DEFAULT PRIVILEGES FOR ROLE walvec IN SCHEMA public GRANT SELECT ON TABLES TO application
