# Clusters run by the private PostgreSQL's programs, or by those in the directory $programs. Sourced by cluster.sh.
#
# A cluster listens on a free port of 127.0.0.1 and on a Unix socket in a directory that only its owner and root
# may enter. PostgreSQL refuses to run as root, so root's clusters belong to postgres, or else nobody.
# shellcheck shell=bash disable=SC2154,SC2034  # variables set or used by cluster.sh

data=$cluster/data
if [[ -n $programs ]]; then
    bin=$programs
else
    find_postgres
fi

# Under a directory closed to others (/root is one) the owner is given the right to pass. no_setuid_fixup lets
# access(2), by which PostgreSQL looks for its own programs, count that right too.
as_owner=()
owner=
owner_can_enter() {
    "${as_owner[@]}" test -x "$bin/postgres" && "${as_owner[@]}" test -x "$state"
} 2>/dev/null

find_owner() {
    ((EUID == 0)) && [[ -z $owner ]] || return 0
    have setpriv || die "root's clusters run as another user, and setpriv (of util-linux) is missing"
    owner=postgres
    id -u postgres >/dev/null 2>&1 || owner=nobody
    as_owner=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")" --clear-groups)
    owner_can_enter && return
    as_owner+=(--inh-caps=+dac_override --ambient-caps=+dac_override --securebits=+no_setuid_fixup)
    owner_can_enter ||
        die "the user $owner cannot enter $checkout or $bin: chmod o+x the directories above it, or move the checkout"
}

settings() {
    cat <<CONF
listen_addresses = '127.0.0.1'
port = $(free_port)
unix_socket_directories = '$1'
wal_level = logical
max_replication_slots = 50
max_wal_senders = 50
max_connections = 200
jit = off
dynamic_shared_memory_type = mmap    # containers give /dev/shm too little for a parallel index build
CONF
}

make_cluster() {
    find_owner
    local socket
    socket=$(mktemp -d /tmp/walvec.XXXXXX) # its path may have 107 bytes, which a checkout's own may well use up
    printf '%s' "$socket" >"$cluster/socket"
    make_password
    [[ -z $owner ]] || chown "$owner" "$cluster" "$cluster/password"
    own_socket
    "${as_owner[@]}" "$bin/initdb" --pgdata="$data" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --no-sync \
        --auth-local=trust --auth-host=scram-sha-256 --pwfile="$cluster/password" >"$cluster/initdb.log" 2>&1 ||
        die "initdb fails: see $cluster/initdb.log"
    {
        settings "$socket"
        (($# == 0)) || printf '%s\n' "$@"
    } >>"$data/postgresql.conf"
    # Minors since CVE-2026-6471 name the output plugins they allow; older ones do not start with this setting.
    if "${as_owner[@]}" "$bin/postgres" -D "$data" -C output_plugin_libraries >/dev/null 2>&1; then
        printf '%s\n' "output_plugin_libraries = 'wal2json, pgoutput, test_decoding'" >>"$data/postgresql.conf"
    fi
}

# make_standby PRIMARY: copy the cluster in that directory while it runs; the copy follows it, on a port of its own.
make_standby() {
    find_owner
    local socket port
    socket=$(mktemp -d /tmp/walvec.XXXXXX)
    printf '%s' "$socket" >"$cluster/socket"
    cp "$1/password" "$cluster/password"
    [[ -z $owner ]] || chown "$owner" "$cluster" "$cluster/password"
    own_socket
    port=$(sed -n 's/^port = //p' "$1/data/postgresql.conf")
    "${as_owner[@]}" "$bin/pg_basebackup" --pgdata="$data" --host="$(<"$1/socket")" --port="$port" --username=postgres \
        --write-recovery-conf --wal-method=stream --checkpoint=fast --no-sync >"$cluster/basebackup.log" 2>&1 ||
        die "pg_basebackup fails: see $cluster/basebackup.log"
    "${as_owner[@]}" sed -i "s/^port = .*/port = $(free_port)/; s|^unix_socket_directories = .*|unix_socket_directories = '$socket'|" \
        "$data/postgresql.conf"
}

# Make the socket's directory, again if /tmp was emptied meanwhile.
own_socket() {
    local socket
    socket=$(<"$cluster/socket")
    [[ -d $socket ]] || mkdir --mode 700 "$socket"
    [[ -z $owner ]] || chown "$owner" "$socket"
}

pg_ctl() {
    find_owner
    "${as_owner[@]}" "$bin/pg_ctl" "$@" --pgdata="$data"
}

running() { [[ -e $cluster/made ]] && pg_ctl status >/dev/null 2>&1; }

start() {
    find_owner
    own_socket
    pg_ctl start --log="$cluster/log" --wait --silent >&2 || die "the cluster $name does not start: see $cluster/log"
}

stop() {
    pg_ctl stop --mode="$1" --wait --silent >&2 || die "the cluster $name does not stop: see $cluster/log"
}

postmaster() { head -n 1 "$data/postmaster.pid"; }

remove() { [[ ! -e $cluster/socket ]] || rm -rf "$(<"$cluster/socket")"; }

where() {
    port=$(sed -n 's/^port = //p' "$data/postgresql.conf")
    password=$(<"$cluster/password")
    dsn="postgresql://postgres@/postgres?host=$(<"$cluster/socket")&port=$port"
}
