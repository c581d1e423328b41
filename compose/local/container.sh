# Clusters run as containers of the image of compose/postgres, where PostgreSQL's packages cannot be had. Sourced
# by cluster.sh.
# shellcheck shell=bash disable=SC2154,SC2034  # variables set or used by cluster.sh

engine=$(<"$postgres/engine")
container=walvec-$(cksum <<<"$checkout" | cut -d ' ' -f 1)-$name # two checkouts must not share one

make_cluster() {
    local setting settings=()
    for setting in max_connections=200 "$@"; do
        settings+=(-c "$setting")
    done
    make_password
    free_port >"$cluster/port" # chosen here, because the engine would choose another one at each start
    "$engine" create --name "$container" --publish "127.0.0.1:$(<"$cluster/port"):5432" --shm-size 256m \
        --env POSTGRES_PASSWORD="$(<"$cluster/password")" "$image" "${settings[@]}" >/dev/null ||
        die "$engine cannot create the container $container"
}

running() { [[ $("$engine" inspect --format '{{.State.Running}}' "$container" 2>/dev/null) == true ]]; }

start() {
    "$engine" start "$container" >/dev/null || die "$engine cannot start $container"
    local attempt
    for attempt in {1..600}; do
        # Over TCP: while the image prepares the database, it answers on the Unix socket only.
        "$engine" exec "$container" pg_isready --quiet --host=127.0.0.1 && return
        running || break
        sleep 0.1
    done
    die "the cluster $name does not start: see $engine logs $container"
}

stop() {
    local signal
    case $1 in
        smart) signal=TERM ;;
        fast) signal=INT ;;
        immediate) signal=QUIT ;;
        *) die "$1 is no way to stop: fast, smart or immediate" ;;
    esac
    "$engine" kill --signal "$signal" "$container" >/dev/null
    "$engine" wait "$container" >/dev/null
}

postmaster() { "$engine" inspect --format '{{.State.Pid}}' "$container"; }

remove() { "$engine" rm --force --volumes "$container" >/dev/null 2>&1 || true; }

where() {
    port=$(<"$cluster/port")
    password=$(<"$cluster/password")
    dsn="postgresql://postgres:$password@127.0.0.1:$port/postgres"
}
