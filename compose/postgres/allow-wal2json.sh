#!/bin/sh
# Allow wal2json as an output plugin. Minors since CVE-2026-6471 refuse all but the listed ones; older minors do
# not know the setting, nor start when it stands in their configuration. It is a list: one string with commas
# inside would be one name.
set -eu

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'output_plugin_libraries') AS listed \gset
\if :listed
ALTER SYSTEM SET output_plugin_libraries = 'wal2json', 'pgoutput', 'test_decoding';
\endif
SQL
