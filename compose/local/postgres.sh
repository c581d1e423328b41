#!/usr/bin/env bash
# Get a PostgreSQL with wal2json and pgvector into .local/, from the first of these that this machine has:
#
#   installed   a server with wal2json under /usr/lib/postgresql, copied, so that pgvector can be put beside it
#   packages    the release's packages, downloaded and unpacked: no root, and nothing of the system changes
#   image       the image of compose/postgres, where there is a container engine
#
# WALVEC_POSTGRES names one of them to leave the others out. PostgreSQL finds its files relative to its
# programs, so a tree of them works wherever it lies. Prints nothing when all is there already.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
log=$state/postgres.log
# shellcheck source=compose/local/apt.sh
source "$checkout/compose/local/apt.sh"

# The newest server here that has wal2json, as its version number; nothing when there is none.
installed_version() {
    local plugin newest=
    for plugin in /usr/lib/postgresql/*/lib/wal2json.so; do
        plugin=${plugin#/usr/lib/postgresql/}
        newest=$(printf '%s\n' "$newest" "${plugin%%/*}" | sort -n | tail -n 1)
    done
    [[ -n $newest && -x /usr/lib/postgresql/$newest/bin/initdb ]] && printf '%s' "$newest"
}

copy_installed() {
    local version=$1
    say "copying PostgreSQL $version from /usr"
    mkdir -p "$postgres/usr/lib/postgresql" "$postgres/usr/share/postgresql" "$postgres/usr/include/postgresql"
    cp -a "/usr/lib/postgresql/$version" "$postgres/usr/lib/postgresql/"
    cp -aL "/usr/share/postgresql/$version" "$postgres/usr/share/postgresql/" 2>>"$log" || true # dangling links
    if [[ -d /usr/include/postgresql/$version/server ]]; then
        cp -a "/usr/include/postgresql/$version" "$postgres/usr/include/postgresql/"
    fi
}

fetch_packages() {
    local version=$1
    say "fetching PostgreSQL $version with wal2json"
    fetch_with_libraries "$postgres" "postgresql-$version" "postgresql-client-$version" \
        "postgresql-$version-wal2json" libpq5
}

# Put pgvector beside the private server: the release's package, or else the source of a release that has one.
add_pgvector() {
    local version=$1
    [[ -e $postgres/usr/share/postgresql/$version/extension/vector.control ]] && return
    have apt-get || die "pgvector is not installed, and there is no apt to get it with"
    apt_update
    if package_exists "postgresql-$version-pgvector"; then
        say "fetching pgvector"
        fetch_only "$postgres" "postgresql-$version-pgvector"
    else
        build_pgvector "$version"
    fi
}

build_pgvector() {
    local version=$1 tree=$state/build
    [[ -d $postgres/usr/include/postgresql/$version/server ]] || fetch_only "$postgres" "postgresql-server-dev-$version"
    local compiler=gcc
    if ! have gcc || [[ ! -e /usr/include/stdio.h ]]; then
        say "fetching a compiler to build pgvector with"
        fetch_with_libraries "$tree" gcc libc6-dev
        fetch_only "$tree" libc6 libgcc-s1 # here already, but the linker needs them beside the rest
        compiler="gcc --sysroot=$tree -B$tree/usr/bin"
    fi
    say "building pgvector for PostgreSQL $version"
    fetch_source pgvector "$tree/pgvector"
    find_postgres
    (
        cd "$tree/pgvector"
        add_libraries "$tree"/usr/lib/*-linux-gnu*
        # OPTFLAGS: the tree may be copied to another machine. with_llvm: JIT is off here.
        PATH=$tree/usr/bin:$PATH make -j "$(nproc)" install PG_CONFIG="$bin/pg_config" CC="$compiler" \
            OPTFLAGS= with_llvm=no
    ) >>"$log" 2>&1 || die "pgvector does not build: see $log"
    rm -rf "$tree"
}

# Unpacked packages bring no tzdata, which is the one file PostgreSQL looks for at a fixed place.
check_runs() {
    [[ -e /usr/share/zoneinfo/UTC ]] || die "/usr/share/zoneinfo is missing: apt-get install tzdata"
    find_postgres
    "$bin/postgres" --version >>"$log" 2>&1 || die "the private PostgreSQL does not start: see $log"
    "$bin/pg_config" --pkglibdir >/dev/null 2>&1 || die "the private PostgreSQL is incomplete: run make clean"
}

build_image() {
    local engine=$1
    say "building the image $image"
    "$engine" build --quiet --tag "$image" "$checkout/compose/postgres" >>"$log" 2>&1 ||
        die "the image of compose/postgres does not build: see $log"
    mkdir -p "$postgres"
    printf '%s' "$engine" >"$postgres/engine"
}

allowed() { [[ ${WALVEC_POSTGRES:-$1} == "$1" ]]; }

get_postgres() {
    local version engine
    if allowed installed && version=$(installed_version); then
        copy_installed "$version"
    elif allowed packages && have apt-get && apt_update && version=$(newest_wal2json); then
        fetch_packages "$version"
    elif allowed image && engine=$(container_engine); then
        build_image "$engine"
        return
    else
        die "no way to a PostgreSQL with wal2json: none is installed under /usr/lib/postgresql, apt has no" \
            "postgresql-NN-wal2json or cannot be reached (see $log), and no container engine answers"
    fi
    add_pgvector "$version"
    check_runs
}

[[ -e $state/postgres.done ]] && exit 0
lock postgres
[[ -e $state/postgres.done ]] && exit 0
case ${WALVEC_POSTGRES:-} in
    '' | installed | packages | image) ;;
    *) die "WALVEC_POSTGRES=$WALVEC_POSTGRES: it takes installed, packages or image" ;;
esac
need_disk 600
rm -rf "$postgres"
: >"$log"
get_postgres
rm -rf "$state/apt"
touch "$state/postgres.done"
