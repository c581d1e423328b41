-- What `walvec init` looks at to propose a configuration.

-- name: text_columns
-- A table's columns, and which of them hold text. No row: there is no such table.
SELECT a.attname AS name, quote_ident(a.attname) AS sql, a.attnotnull AS not_null, t.typcategory = 'S' AND a.attgenerated = '' AS is_text,
    coalesce(a.attnum = ANY (i.indkey::int2[]), false) AS in_key
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'p')
ORDER BY a.attnum
