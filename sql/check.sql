-- What `walvec check` asks beyond slots.sql, above all of the target, and the statements that it advises.

-- name: target_server
-- The server and database of the vectors, and whether anything can be written there.
SELECT
    current_setting('server_version') AS version,
    current_database() AS database,
    current_user AS role,
    pg_is_in_recovery() AS in_recovery,
    has_database_privilege(current_database(), 'CREATE') AS may_create,
    has_database_privilege(current_database(), 'TEMPORARY') AS may_create_temporary

-- name: pgvector
-- The extension as it is installed and as it is available. `role_may_create` follows the rule of CREATE EXTENSION.
SELECT
    installed.extversion AS installed,
    available.default_version AS available,
    coalesce(
        NOT v.superuser
        OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR v.trusted AND has_database_privilege(current_database(), 'CREATE'),
        false
    ) AS role_may_create
FROM (SELECT 'vector'::name AS name) AS wanted
LEFT JOIN pg_extension AS installed ON installed.extname = wanted.name
LEFT JOIN pg_available_extensions AS available USING (name)
LEFT JOIN pg_available_extension_versions AS v ON v.name = wanted.name AND v.version = available.default_version

-- name: target_schema
-- What this role may do in a schema. No row: there is no such schema.
SELECT
    has_schema_privilege(n.oid, 'USAGE') AS may_use,
    has_schema_privilege(n.oid, 'CREATE') AS may_create
FROM pg_namespace AS n
WHERE n.nspname = %(schema)s

-- name: target_table
-- An existing target: its kind, and whether this role may write it and build its index.
SELECT
    c.relkind::text AS kind,
    pg_has_role(c.relowner, 'USAGE') AS owned,
    has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') AS may_write
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s

-- name: unknown_types
-- Which of these types the target database lacks.
SELECT name FROM unnest(%(types)s::text[]) AS name WHERE to_regtype(name) IS NULL

-- name: create_schema
-- Remedy
CREATE SCHEMA {schema}

-- name: grant_schema
-- Remedy
GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}

-- name: grant_database
-- Remedy
GRANT CREATE, TEMPORARY ON DATABASE {database} TO {role}

-- name: grant_table
-- Remedy
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}

-- name: grant_tables
-- Remedy
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}

-- name: change_owner
-- Remedy
ALTER TABLE {table} OWNER TO {role}

-- name: update_extension
-- Remedy
ALTER EXTENSION vector UPDATE

-- name: publish_columns
-- Remedy. A table's column list is changed by publishing the table again.
ALTER PUBLICATION {publication} DROP TABLE {table}; ALTER PUBLICATION {publication} ADD TABLE {table} ({columns}){filter}

-- name: creators
-- Of each schema: whether it exists, and which roles may create in it, apart from superusers and this role.
SELECT wanted.name, n.oid IS NOT NULL, (
    SELECT array_agg(DISTINCT coalesce(role.rolname, 'PUBLIC'))
    FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS acl
    LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    LEFT JOIN pg_roles AS role ON role.oid = CASE grantee.rolname
        WHEN 'pg_database_owner' THEN (SELECT datdba FROM pg_database WHERE datname = current_database())
        ELSE acl.grantee
    END
    WHERE acl.privilege_type = 'CREATE' AND role.rolsuper IS NOT TRUE AND role.rolname IS DISTINCT FROM current_user
)
FROM unnest(%(schemas)s::text[]) AS wanted (name)
LEFT JOIN pg_namespace AS n ON n.nspname = wanted.name

-- name: revoke_create
-- Remedy
REVOKE CREATE ON SCHEMA {schema} FROM {roles}
