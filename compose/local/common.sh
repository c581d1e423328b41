# What the scripts here share: where things lie, how to fail, how to wait for one another. Sourced, not run.
# shellcheck shell=bash disable=SC2034  # variables for those who source this

set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
state=$checkout/.local         # all that these scripts make, but for .venv
postgres=$state/postgres       # the private copy of PostgreSQL, laid out as under /
clusters=$state/clusters       # one directory a cluster
image=walvec-postgres          # where there is no apt: the image of compose/postgres

say() { printf '%s\n' "$*" >&2; }

die() {
    say "walvec: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# need_disk MEGABYTES: stop unless so much is free under the checkout.
need_disk() {
    local free
    free=$(df -Pm "$checkout" | awk 'NR == 2 { print $4 }')
    ((free >= $1)) || die "$checkout has $free MB free, and $1 MB are needed: free some disk space"
}

# lock NAME: wait until no other run of these scripts holds it; kept until this one ends. macOS has no flock.
lock() {
    mkdir -p "$state"
    have flock || return 0
    exec 9>"$state/$1.lock"
    flock 9
}

container_engine() {
    local engine
    for engine in docker podman; do
        if have "$engine" && "$engine" info >/dev/null 2>&1; then
            printf '%s' "$engine"
            return
        fi
    done
    return 1
}

# The private PostgreSQL's programs (empty when it runs in a container), and the libraries that came with it.
shopt -s nullglob
find_postgres() {
    local programs=("$postgres"/usr/lib/postgresql/*/bin)
    bin=${programs[0]:-}
    add_libraries "$postgres"/usr/lib/*-linux-gnu* "$postgres"/lib/*-linux-gnu*
}

add_libraries() {
    local IFS=:
    (($# == 0)) || export LD_LIBRARY_PATH="$*${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}
