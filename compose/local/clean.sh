#!/usr/bin/env bash
# Stop and remove what `make demo` and `make test` made: a demo kept running, the clusters, .local and .venv.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A demo that was left running on request is cleared by its watchdog, a program of this checkout.
ps -eo pid=,args= | while read -r pid words; do
    [[ $words != *" $checkout/"*/watchdog.py\ */walvec-demo-* ]] || kill "$pid" || true
done
"$checkout/compose/local/cluster.sh" clean
rm -rf "$state" "$checkout/.venv"
