#!/usr/bin/env bash
# Stop and remove what `make demo` and `make test` made: a demo kept running, the clusters, .local and .venv.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Processes a demo left running on request write their ids to .local/demo/NAME.pid.
for file in "$state"/demo/*.pid; do
    pid=$(<"$file")
    if grep -qs walvec "/proc/$pid/cmdline"; then
        kill "$pid"
    fi
done
"$checkout/compose/local/cluster.sh" clean
rm -rf "$state" "$checkout/.venv"
