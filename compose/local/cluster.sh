#!/usr/bin/env bash
# Private PostgreSQL clusters under .local/clusters, for the tests and the demo. Usage: cluster.sh COMMAND [NAME] …
#
#   up NAME [SETTING=VALUE …]   make it if need be (with these settings), start it, wait until it answers
#                               WALVEC_PROGRAMS names a directory of initdb, postgres and pg_ctl to make it with
#   standby NAME OF             make it a streaming hot standby of the cluster OF, and start it
#   down NAME [MODE]            stop it: fast (the default), smart or immediate
#   dsn NAME                    its superuser's connection string, the quickest way in
#   env NAME                    PG* variables for any client of this machine (TCP, with the password), for eval
#   pid NAME                    its postmaster's process id, as this machine counts
#   drop NAME                   stop it and remove its files
#   clean                       drop all of them
#
# NAME is main unless given.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

command=${1:-}
name=${2:-main}
[[ $name =~ ^[A-Za-z0-9_-]+$ ]] || die "$name is no name for a cluster: letters, digits, - and _"
cluster=$clusters/$name

# The directory of the programs that it was made with; empty for the private PostgreSQL's.
programs=${WALVEC_PROGRAMS:-}
for made in "$cluster" ${3:+"$clusters/$3"}; do
    [[ ! -e $made/programs ]] || programs=$(<"$made/programs")
done

[[ $command != up || -n $programs ]] || "$checkout/compose/local/postgres.sh"

# Either file defines make_cluster, running, start, stop, postmaster, remove, and where, which sets
# port, password and dsn.
if [[ -z $programs && -e $postgres/engine ]]; then
    # shellcheck source=compose/local/container.sh
    source "$checkout/compose/local/container.sh"
else
    # shellcheck source=compose/local/programs.sh
    source "$checkout/compose/local/programs.sh"
fi

free_port() {
    local python=$checkout/.venv/bin/python
    [[ -x $python ]] || python=python3
    "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

make_password() { (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$cluster/password"); }

make_directory() {
    mkdir -p "$cluster"
    [[ -z $programs ]] || printf '%s' "$programs" >"$cluster/programs"
}

up() {
    lock "$name" # two runs at once: the second waits and finds it running
    if [[ ! -e $cluster/made ]]; then
        drop
        make_directory
        make_cluster "$@"
        touch "$cluster/made"
    fi
    running || start 9>&-
}

standby() {
    declare -F make_standby >/dev/null || die "clusters in containers have no standbys"
    lock "$name"
    drop
    make_directory
    make_standby "$clusters/$1"
    touch "$cluster/made"
    start 9>&-
}

down() {
    ! running || stop "${1:-fast}"
}

drop() {
    [[ -d $cluster ]] || return 0
    [[ ! -e $cluster/made ]] || down immediate
    remove
    rm -rf "$cluster"
}

need_cluster() { [[ -e $cluster/made ]] || die "there is no cluster $name: run compose/local/cluster.sh up $name"; }

case $command in
    up) up "${@:3}" ;;
    standby) standby "${3:?of which cluster}" ;;
    down) down "${3:-}" ;;
    dsn)
        need_cluster
        where
        printf '%s\n' "$dsn"
        ;;
    env)
        need_cluster
        where
        printf 'export PGHOST=127.0.0.1 PGPORT=%s PGUSER=postgres PGPASSWORD=%s PGDATABASE=postgres\n' "$port" "$password"
        ;;
    pid)
        need_cluster
        postmaster
        ;;
    drop)
        drop
        rm -f "$state/$name.lock"
        ;;
    clean)
        for cluster in "$clusters"/*/; do
            "${BASH_SOURCE[0]}" drop "$(basename "$cluster")"
        done
        ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac
