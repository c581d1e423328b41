-- What `walvec demo` does as the application, as its reader, and as the one who made its database.

-- name: create_blog
-- As in the article on PgVectorizer, walvec's ancestor.
CREATE TABLE public.blog (
    id serial PRIMARY KEY NOT NULL,
    title text NOT NULL,
    author text NOT NULL,
    contents text NOT NULL,
    category text NOT NULL,
    published_time timestamptz NULL  -- NULL if not yet published
)

-- name: insert_post
-- One post.
INSERT INTO public.blog (title, author, contents, category, published_time)
VALUES (
    %(title)s, %(author)s, %(contents)s, %(category)s, CASE WHEN %(published)s THEN pg_catalog.now() END
)
RETURNING id

-- name: edit
-- A longer text.
UPDATE public.blog SET contents = contents || %(text)s WHERE id = %(id)s

-- name: retitle
-- Another title.
UPDATE public.blog SET title = %(text)s WHERE id = %(id)s

-- name: unpublish
-- A post that is to have no vectors any more.
UPDATE public.blog SET published_time = NULL WHERE id = %(id)s

-- name: publish
-- A post that is to have vectors again.
UPDATE public.blog SET published_time = pg_catalog.now() WHERE id = %(id)s

-- name: delete
-- One post less.
DELETE FROM public.blog WHERE id = %(id)s

-- name: recategorise
-- Every post, in a column that no vector depends on.
UPDATE public.blog SET category = 'python ' || category

-- name: post_ids
-- Every post.
SELECT id FROM public.blog ORDER BY id

-- name: titles
-- The titles of some posts.
SELECT id, title FROM public.blog WHERE id = ANY (%(ids)s)

-- name: published_posts
-- What is to have vectors.
SELECT id, title, contents FROM public.blog WHERE published_time IS NOT NULL

-- name: published_post
-- One of these.
SELECT id, title, contents FROM public.blog WHERE published_time IS NOT NULL AND id = %(id)s

-- name: target
-- All of the target.
SELECT id, chunk_seq, chunk, input_hash, embedding::real[] FROM public.blog_embedding

-- name: target_of_post
-- The chunks of one post.
SELECT chunk FROM public.blog_embedding WHERE id = %(id)s ORDER BY chunk_seq

-- name: count_target
-- All chunks.
SELECT pg_catalog.count(*) FROM public.blog_embedding

-- name: backfill
-- How many posts have vectors, and what the backfill is at.
SELECT pg_catalog.count(DISTINCT id), (SELECT phase FROM walvec.vectorizer) FROM public.blog_embedding

-- name: wal_position
-- Where the WAL ends.
SELECT pg_catalog.pg_current_wal_insert_lsn()::text

-- name: checkpoint
-- Where walvec is.
SELECT lsn::text FROM walvec.checkpoint

-- name: walvec_sessions
-- Sessions of walvec's in this database.
SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND application_name LIKE 'walvec %%'

-- name: find_database
-- Whether a database of that name was made by a demo; no row where there is none.
SELECT pg_catalog.shobj_description(oid, 'pg_database') IS NOT DISTINCT FROM %(mark)s
FROM pg_catalog.pg_database WHERE datname = %(name)s

-- name: create_database
-- An empty database.
CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0

-- name: mark_database
-- So that the next demo knows it for its own.
COMMENT ON DATABASE {database} IS {mark}

-- name: idle_slots
-- The database's slots that nobody uses.
SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = %(name)s AND NOT active

-- name: drop_slot
-- One of these.
SELECT pg_catalog.pg_drop_replication_slot(%(slot)s)

-- name: has_no_slots
-- Whether all slots of the database are gone.
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE database = %(name)s)

-- name: drop_database
-- The database, whoever is connected.
DROP DATABASE IF EXISTS {database} WITH (FORCE)
