-- What `walvec init` reads to propose a configuration.

-- name: text_columns
-- A table's columns, and which of them hold text.
SELECT a.attname AS name, quote_ident(a.attname) AS sql, a.attnotnull AS not_null, t.typcategory = 'S' AND a.attgenerated = '' AS is_text,
    coalesce(a.attnum = ANY (i.indkey::int2[]), false) AS in_key
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'p')
ORDER BY a.attnum

-- name: tables_with_text
-- The tables that this role may read and that have a text column outside their key, without partitions and without
-- tables of PostgreSQL, of extensions or of walvec.
SELECT n.nspname, c.relname
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
    AND n.nspname NOT IN ('information_schema', 'walvec') AND n.nspname !~ '^pg_'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
    AND 2 > (
        SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('chunk_seq', 'input_hash')
    )
    AND EXISTS (
        SELECT FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            AND t.typcategory = 'S' AND NOT coalesce(a.attnum = ANY (i.indkey::int2[]), false)
    )
ORDER BY n.nspname, c.relname

-- name: average_lengths
-- Bytes of each column, over a few rows. pg_stats counts a long text as the pointer to where it is stored.
SELECT {lengths} FROM (SELECT * FROM {table} LIMIT 100) AS walvec_row

-- name: average_length
-- One of those.
avg(octet_length({column}::text))::int

-- name: search_path
-- The existing schemas in which this role's sessions in this database look up names. The setting in postgresql.conf
-- cannot be seen from here: PostgreSQL's default stands for it.
WITH setting (value) AS (
    SELECT coalesce((
        SELECT substr(entry, length('search_path=') + 1)
        FROM pg_db_role_setting AS s, unnest(s.setconfig) AS entry
        WHERE starts_with(entry, 'search_path=')
            AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
        ORDER BY s.setrole = 0, s.setdatabase = 0
        LIMIT 1
    ), '"$user", public')
)
SELECT n.nspname
FROM setting, regexp_matches(setting.value, '"((?:[^"]|"")+)"|([^\s,"]+)', 'g') WITH ORDINALITY AS part (names, position)
JOIN pg_namespace AS n
    ON n.nspname = replace(coalesce(replace(names[1], '""', '"'), lower(names[2])), '$user', current_user)
WHERE n.nspname <> 'pg_catalog'
ORDER BY position
