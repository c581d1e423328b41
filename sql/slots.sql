-- The source's catalog, its slots and publications. PostgreSQL 14 to 18: a column that some of them lack is
-- read through to_jsonb(), which gives NULL for it.

-- name: qualify_names
-- Make format_type() and pg_get_expr() name the schema of everything that is not PostgreSQL's own.
SET LOCAL search_path = pg_catalog

-- name: relation
-- One table by its exact name. Names are compared as text, because one that is too long would be truncated to
-- another's.
SELECT
    c.oid,
    n.nspname AS schema,
    c.relname AS name,
    c.relkind::text AS kind,
    c.relpersistence::text AS persistence,
    c.relreplident::text AS replica_identity,
    t.xmin::text::bigint AS version
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_type AS t ON t.oid = c.reltype
WHERE n.nspname = %(schema)s::text AND c.relname = %(name)s::text

-- name: columns
-- A table's columns in order, with the type under each domain, a collation that is not that type's own, and the
-- operators (=, >, >=, <) of the operator class of a unique index on the column, if there is one. A type is canonical if
-- equal values always have equal text. Not canonical are numeric (1.0 = 1.00), floats (0 = -0), char without a length,
-- jsonb, arrays of these, and text under a collation to which different strings can be equal.
--
-- `version` changes with every ALTER TABLE of the column, even a rewrite that keeps its type, and with the expression of
-- a generated column. TRUNCATE, VACUUM FULL and CLUSTER do not change it.
SELECT
    a.attname AS name,
    a.attnum AS number,
    a.attcollation AS collation_oid,
    concat_ws('/', a.xmin, d.xmin) AS version,
    a.atttypid AS type_oid,
    base.oid AS base_type_oid,
    format_type(a.atttypid, a.atttypmod) AS type_name,
    a.attnotnull AS not_null,
    a.attgenerated <> '' AS generated,
    format_type(base.oid, base.typmod) AS base_type_name,
    CASE WHEN a.attcollation <> base.typcollation THEN (
        SELECT quote_ident(n.nspname) || '.' || quote_ident(co.collname)
        FROM pg_namespace AS n WHERE n.oid = co.collnamespace
    ) END AS collation,
    (
        SELECT array_agg(
            'OPERATOR(' || quote_ident(n.nspname) || '.' || o.oprname || ')'
            ORDER BY array_position(ARRAY[3, 5, 4, 1]::int2[], member.amopstrategy)
        )
        FROM (
            SELECT i.indclass[array_position(i.indkey::int2[], a.attnum)] AS class
            FROM pg_index AS i
            WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND a.attnum = ANY (i.indkey::int2[])
                AND i.indclass[array_position(i.indkey::int2[], a.attnum)] IS NOT NULL
            ORDER BY i.indisreplident DESC, i.indisprimary DESC, i.indexrelid
            LIMIT 1
        ) AS key
        JOIN pg_opclass AS c ON c.oid = key.class
        JOIN pg_amop AS member ON member.amopfamily = c.opcfamily AND member.amoppurpose = 's'
            AND member.amoplefttype = c.opcintype AND member.amoprighttype = c.opcintype
            AND member.amopstrategy <> 2
        JOIN pg_operator AS o ON o.oid = member.amopopr
        JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    ) AS operators,
    coalesce(co.collisdeterministic, true) AND (
        base.typtype = 'e'
        OR base.oid = 'bpchar'::regtype AND base.typmod <> -1
        OR base.oid = ANY (ARRAY[
            'bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', 'uuid', 'bytea',
            'date', 'time', 'timestamp', 'timestamptz'
        ]::regtype[])
    ) AS canonical
FROM pg_attribute AS a
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_attrdef AS d ON a.attgenerated <> '' AND d.adrelid = a.attrelid AND d.adnum = a.attnum
CROSS JOIN LATERAL (
    WITH RECURSIVE type AS (
        SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typcollation, a.atttypmod AS typmod
        FROM pg_type AS t
        WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typcollation, type.typtypmod
        FROM type
        JOIN pg_type AS t ON t.oid = type.typbasetype
        WHERE type.typtype = 'd'
    )
    SELECT oid, typtype, typmod, typcollation FROM type WHERE typtype <> 'd'
) AS base
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: type_versions
-- What the output of these types depends on besides their oids: the labels of enums and the attributes of composite
-- types, also within arrays, domains, ranges and each other. A type that has neither gives no row.
WITH RECURSIVE part (root, oid) AS (
    SELECT oid, oid FROM unnest(%(oids)s::oid[]) AS oid
    UNION
    SELECT part.root, inner_type.oid
    FROM part
    JOIN pg_type AS t ON t.oid = part.oid
    CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL
        SELECT t.typbasetype WHERE t.typbasetype <> 0
        UNION ALL
        SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL
        SELECT a.atttypid FROM pg_attribute AS a
        WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS inner_type (oid)
)
SELECT part.root AS type_oid, md5(string_agg(detail.text, ',' ORDER BY part.oid, detail.text)) AS version
FROM part
JOIN pg_type AS t ON t.oid = part.oid
CROSS JOIN LATERAL (
    SELECT concat_ws('/', 'label', e.oid, e.xmin) FROM pg_enum AS e WHERE e.enumtypid = t.oid
    UNION ALL
    SELECT concat_ws('/', 'attribute', a.attnum, a.xmin) FROM pg_attribute AS a
    WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0
) AS detail (text)
GROUP BY part.root

-- name: leaves
-- The tables that hold a table's rows: its leaf partitions, or itself. `version` changes when one is renamed, moved to
-- another schema, or detached and attached again, none of which the stream shows.
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    c.relreplident::text AS replica_identity,
    concat_ws('/', t.xmin, (
        SELECT string_agg(i.xmin::text, '/' ORDER BY i.inhrelid, i.inhparent)
        FROM pg_inherits AS i
        WHERE i.inhrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid))
    )) AS version
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_type AS t ON t.oid = c.reltype
WHERE c.oid IN (
    SELECT relid FROM pg_partition_tree(%(oid)s) WHERE isleaf
    UNION ALL
    SELECT oid FROM pg_class WHERE oid = %(oid)s AND relkind = 'r'
)
ORDER BY n.nspname, c.relname

-- name: unique_indexes
-- The indexes that could identify a row of these tables, deferrable ones included: unique, on columns alone, over all
-- rows.
SELECT
    i.indrelid AS table_oid,
    ic.relname AS name,
    i.indisprimary AS is_primary,
    i.indisreplident AS is_replica_identity,
    i.indimmediate AS immediate,
    bool_and(a.attnotnull) AS not_null,
    array_agg(a.attname::text ORDER BY k.position) AS columns
FROM pg_index AS i
JOIN pg_class AS ic ON ic.oid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE
    i.indrelid = ANY (%(oids)s)
    AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    AND k.position <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, ic.relname, i.indisprimary, i.indisreplident, i.indimmediate, i.indnkeyatts
ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, ic.relname

-- name: publication
-- What a publication publishes, and who owns it. `version` changes when it is altered, but not when tables are added or
-- dropped.
SELECT pubinsert AS insert, pubupdate AS update, pubdelete AS delete, pubtruncate AS truncate,
    pubviaroot AS via_root, concat_ws('/', oid, xmin) AS version, oid, pg_get_userbyid(pubowner) AS owner,
    pg_has_role(pubowner, 'USAGE') AS may_alter
FROM pg_publication
WHERE pubname = %(publication)s::text

-- name: published_leaves
-- Which of these tables a publication publishes, with row filter and column list, by the rules of pgoutput's
-- get_rel_sync_entry. A partition is published if any ancestor is. Filter and list are its own, or with
-- publish_via_partition_root those of the topmost published ancestor. FOR ALL TABLES and TABLES IN SCHEMA have neither.
WITH candidate AS (
    SELECT
        leaf.oid AS leaf,
        ancestor.level,
        p.pubviaroot,
        entry.oid AS entry,
        namespace.oid AS namespace_entry,
        entry.prrelid,
        entry.prqual,
        entry.prattrs,
        p.puballtables OR namespace.oid IS NOT NULL AS whole,
        p.puballtables OR namespace.oid IS NOT NULL OR entry.oid IS NOT NULL AS listed
    FROM pg_publication AS p
    CROSS JOIN unnest(%(oids)s::oid[]) AS leaf (oid)
    CROSS JOIN LATERAL (
        SELECT relid::oid, level FROM pg_partition_ancestors(leaf.oid) WITH ORDINALITY AS a (relid, level)
        UNION
        SELECT leaf.oid, 1
    ) AS ancestor
    JOIN pg_class AS c ON c.oid = ancestor.relid
    LEFT JOIN pg_publication_rel AS entry ON entry.prpubid = p.oid AND entry.prrelid = c.oid
    LEFT JOIN pg_publication_namespace AS namespace
        ON namespace.pnpubid = p.oid AND namespace.pnnspid = c.relnamespace
    WHERE p.pubname = %(publication)s::text
)
SELECT DISTINCT ON (leaf)
    leaf,
    (
        SELECT concat_ws(
            '/', string_agg(every.entry::text, '/' ORDER BY every.entry),
            string_agg(every.namespace_entry::text, '/' ORDER BY every.namespace_entry)
        ) FROM candidate AS every WHERE every.leaf = candidate.leaf
    ) AS membership,
    CASE WHEN NOT whole THEN pg_get_expr(prqual, prrelid) END AS row_filter,
    CASE WHEN NOT whole THEN (
        SELECT array_agg(attname::text) FROM pg_attribute
        WHERE attrelid = prrelid AND attnum = ANY (prattrs::int2[])
    ) END AS columns
FROM candidate
WHERE leaf IN (SELECT leaf FROM candidate WHERE listed) AND CASE WHEN pubviaroot THEN listed ELSE level = 1 END
ORDER BY leaf, level DESC

-- name: published_leaves_14
-- The same for PostgreSQL 14, whose publications have no row filters, column lists or schemas.
SELECT leaf.oid AS leaf, NULL::text AS row_filter, NULL::text[] AS columns, (
    SELECT string_agg(r.oid::text, '/' ORDER BY r.oid) FROM pg_publication_rel AS r
    WHERE r.prpubid = p.oid
        AND (r.prrelid = leaf.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(leaf.oid)))
) AS membership
FROM pg_publication AS p
CROSS JOIN unnest(%(oids)s::oid[]) AS leaf (oid)
WHERE p.pubname = %(publication)s::text AND (
    p.puballtables OR EXISTS (
        SELECT FROM pg_publication_rel
        WHERE prpubid = p.oid AND (
            prrelid = leaf.oid OR prrelid IN (SELECT relid FROM pg_partition_ancestors(leaf.oid))
        )
    )
)

-- name: publishing_rights
-- What CREATE PUBLICATION and ALTER PUBLICATION require: CREATE on this database, and the rights of each table's owner.
SELECT
    has_database_privilege(current_database(), 'CREATE') AS may_create,
    (
        SELECT array_agg(n.nspname || '.' || c.relname ORDER BY n.nspname, c.relname)
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%(oids)s::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')
    ) AS not_owned

-- name: grant_create
-- Remedy: the right to make a publication.
GRANT CREATE ON DATABASE {database} TO {role}

-- name: create_publication
-- Publish tables, with all their columns, rows and actions.
CREATE PUBLICATION {publication} FOR TABLE {tables}

-- name: create_empty_publication
-- Make a publication to which tables are added later.
CREATE PUBLICATION {publication}

-- name: add_to_publication
-- Publish one more table.
ALTER PUBLICATION {publication} ADD TABLE {table}

-- name: publish_via_root
-- Remedy: the row filter and the column list of the partitioned table hold for its partitions.
ALTER PUBLICATION {publication} SET (publish_via_partition_root = true)

-- name: publish_via_leaves
-- Remedy: partitions come under their own names, and TRUNCATE of a partition is sent.
ALTER PUBLICATION {publication} SET (publish_via_partition_root = false)

-- name: drop_publication
-- Safe to repeat.
DROP PUBLICATION IF EXISTS {publication}

-- name: identify_by_primary_key
-- Remedy: the primary key identifies rows again.
ALTER TABLE {table} REPLICA IDENTITY DEFAULT

-- name: identify_by_index
-- Remedy: a unique index identifies rows.
ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}

-- name: identify_by_all_columns
-- Remedy: the WAL carries the whole old row.
ALTER TABLE {table} REPLICA IDENTITY FULL

-- name: add_primary_key
-- Remedy where no index would do. Only the table's owner knows which columns to use.
ALTER TABLE {table} ADD PRIMARY KEY (...)

-- name: add_immediate_index
-- Remedy beside a deferrable key, which the WAL cannot use.
CREATE UNIQUE INDEX ON {table} ({columns})

-- name: make_logged
-- Remedy: the WAL carries the table's changes from now on.
ALTER TABLE {table} SET LOGGED

-- name: start_replication
-- Begin where the slot was last confirmed, for which 0/0 stands. The server would trust any LSN given here.
START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})

-- name: allow_libraries
-- Remedy: allow these libraries as output plugins. Each is a separate string; one string with commas is one name.
ALTER SYSTEM SET output_plugin_libraries = {libraries}

-- name: reload
-- Remedy: read the configuration files again.
SELECT pg_reload_conf()

-- name: grant_replication
-- Remedy for a superuser: the right to replicate. Managed services have a role to grant instead.
ALTER ROLE {role} REPLICATION

-- name: slots
-- All slots, or the slot of a name. PostgreSQL 17 has invalidation_reason; in 14 to 16, wal_status and conflicting show
-- that a slot is lost.
SELECT
    s.slot_name AS name,
    s.plugin,
    s.database,
    s.active,
    s.active_pid,
    s.restart_lsn::text,
    s.confirmed_flush_lsn::text,
    s.wal_status,
    s.safe_wal_size,
    coalesce(
        to_jsonb(s) ->> 'invalidation_reason',
        CASE
            WHEN s.wal_status = 'lost' THEN 'wal_removed'
            WHEN (to_jsonb(s) ->> 'conflicting')::boolean THEN 'conflicting'
        END
    ) AS invalidation_reason,
    pg_wal_lsn_diff(here.lsn, s.restart_lsn)::bigint AS retained_bytes,
    pg_wal_lsn_diff(here.lsn, s.confirmed_flush_lsn)::bigint AS unconfirmed_bytes,
    s.temporary,
    s.two_phase,
    (to_jsonb(s) ->> 'failover')::boolean AS failover,
    (to_jsonb(s) ->> 'synced')::boolean AS synced,
    (to_jsonb(s) ->> 'inactive_since')::timestamptz AS inactive_since
FROM pg_replication_slots AS s
CROSS JOIN (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn
) AS here
WHERE %(name)s::text IS NULL OR s.slot_name = %(name)s::text
ORDER BY s.slot_name

-- name: limit_statements
-- Cancel a statement of this transaction that takes longer.
SELECT set_config('statement_timeout', %(milliseconds)s::text, true)

-- name: create_slot
-- Waits for every open transaction that has written, in any database.
SELECT lsn::text FROM pg_create_logical_replication_slot(%(name)s, %(plugin)s, %(temporary)s)

-- name: create_failover_slot
-- The same from PostgreSQL 17 on, for a slot that standbys keep a copy of.
SELECT lsn::text FROM pg_create_logical_replication_slot(%(name)s, %(plugin)s, %(temporary)s, false, true)

-- name: alter_slot
-- A command of the replication protocol, from PostgreSQL 17 on; there is no function for it.
ALTER_REPLICATION_SLOT {slot} (FAILOVER {failover})

-- name: timeline_history
-- A command of the replication protocol: where each earlier timeline was left.
TIMELINE_HISTORY {timeline}

-- name: blockers
-- The transactions that a new slot waits for, the oldest first: those that hold the lock of their own id, and prepared
-- ones. Only some roles may see the names and start times of other roles' sessions.
SELECT pid, application_name AS name, datname AS database, extract(epoch FROM now() - xact_start)::float8 AS age
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND pid IN (
    SELECT pid FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
)
UNION ALL
SELECT NULL, gid, database, extract(epoch FROM now() - prepared)::float8
FROM pg_prepared_xacts
ORDER BY age DESC NULLS LAST
LIMIT 5

-- name: end_session
-- Remedy: the session's transaction is rolled back.
SELECT pg_terminate_backend({pid})

-- name: end_prepared
-- Remedy, run in the transaction's database. COMMIT PREPARED would do as well.
ROLLBACK PREPARED {gid}

-- name: drop_slot
-- Refused while the slot is active.
SELECT pg_drop_replication_slot(%(name)s)

-- name: drop_one_slot
-- Remedy.
SELECT pg_drop_replication_slot({slot})

-- name: flush_position
-- The end of the WAL that is on disk.
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text AS lsn

-- name: advance_slot
-- Refused while the slot is active, and for a position behind the slot's. Reads the WAL in between without calling the
-- plugin.
SELECT end_lsn::text AS lsn FROM pg_replication_slot_advance(%(name)s, %(lsn)s::pg_lsn)

-- name: copy_slot
-- The copy begins where the original was confirmed last. It is permanent, even if the original is temporary, and never a
-- failover slot.
SELECT lsn::text FROM pg_copy_logical_replication_slot(%(source)s, %(name)s, false)

-- name: count_messages
-- Decodes everything up to the position, and stops after the transaction that ends past it.
SELECT count(*) AS messages
FROM pg_logical_slot_peek_changes(%(name)s, %(until)s::pg_lsn, NULL, VARIADIC %(options)s::text[])

-- name: may_replicate
-- Amazon RDS and Aurora grant the role rds_replication in place of the attribute.
SELECT rolsuper OR rolreplication OR EXISTS (
    SELECT FROM pg_roles AS provider
    WHERE provider.rolname = 'rds_replication' AND pg_has_role(r.oid, provider.oid, 'member')
) AS allowed
FROM pg_roles AS r
WHERE r.rolname = current_user

-- name: server_state
-- What the preconditions depend on. output_plugin_libraries is NULL on a minor release without it, and for a role that
-- may not see it.
SELECT
    current_user AS role,
    current_database() AS database,
    current_setting('server_version') AS version,
    current_setting('server_encoding') AS encoding,
    current_setting('wal_level') AS wal_level,
    current_setting('max_replication_slots')::int AS max_slots,
    (SELECT count(*) FROM pg_replication_slots) AS slots,
    current_setting('max_wal_senders')::int AS max_senders,
    (SELECT count(*) FROM pg_stat_replication) AS senders,
    current_setting('max_slot_wal_keep_size') AS keep_size,
    (SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries') AS libraries

-- name: is_utf8
-- wal2json writes text in the database's own encoding, whatever the client's is.
SELECT current_setting('server_encoding') = 'UTF8'

-- name: read_rights
-- Whether this role can read a table, and all of its rows.
SELECT
    has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_select,
    row_security_active(c.oid) AS row_security
FROM pg_class AS c
WHERE c.oid = %(oid)s

-- name: set_wal_level
-- Remedy; takes effect at the next restart.
ALTER SYSTEM SET wal_level = 'logical'

-- name: set_max_slots
-- Remedy; takes effect at the next restart.
ALTER SYSTEM SET max_replication_slots = {number}

-- name: set_max_senders
-- Remedy; takes effect at the next restart.
ALTER SYSTEM SET max_wal_senders = {number}

-- name: set_keep_size
-- Remedy: the server gives up a slot that nobody reads before it fills the disk.
ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'

-- name: grant_read
-- Remedy: backfill and refetch may read the table.
GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {table} TO {role}

-- name: see_all_rows
-- Remedy: the stream carries every row whatever the table's policies are, and the backfill should see the same rows.
ALTER ROLE {role} BYPASSRLS
