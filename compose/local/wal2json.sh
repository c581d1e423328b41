#!/usr/bin/env bash
# Compile wal2json into .local/wal2json/ for a PostgreSQL that comes without it. Usage: wal2json.sh PROGRAMS, the
# directory of that PostgreSQL's pg_config. Clusters made with these programs find it there (programs.sh).
#
# WALVEC_WAL2JSON names a directory of wal2json's source; else it comes from a source package. Without either, or
# without a compiler, this says so and succeeds: the tests then skip what needs wal2json.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
log=$state/wal2json.log
# shellcheck source=compose/local/apt.sh
source "$checkout/compose/local/apt.sh"

programs=${1:?the directory of pg_config}
version=$("$programs/pg_config" --version | grep -oE '[0-9]+' | head -n 1)
made=$state/wal2json/$version
tree=$state/build/wal2json

give_up() {
    say "wal2json for PostgreSQL $version: $*; its tests are skipped there"
    exit 0
}

get_source() {
    if [[ -n ${WALVEC_WAL2JSON:-} ]]; then
        mkdir -p "$(dirname "$tree")"
        cp -R "$WALVEC_WAL2JSON" "$tree" || give_up "WALVEC_WAL2JSON=$WALVEC_WAL2JSON cannot be copied"
    else
        have apt-get || give_up "there is no apt to get its source with; WALVEC_WAL2JSON can name a copy"
        apt_update
        (fetch_source wal2json "$tree") || give_up "its source cannot be had; WALVEC_WAL2JSON can name a copy"
    fi
}

# The flags are our own, because those of the wheel belong to another compiler.
compile() {
    make -C "$tree" PG_CONFIG="$programs/pg_config" CC=gcc with_llvm=no \
        CFLAGS="-O2 -fPIC -fno-strict-aliasing -fwrapv" >>"$log" 2>&1
}

[[ ! -e $made/wal2json.so ]] || exit 0
lock postgres # it shares directories with postgres.sh
[[ ! -e $made/wal2json.so ]] || exit 0
: >"$log"
{ have gcc && have make && [[ -e /usr/include/stdio.h ]]; } || give_up "there is no compiler"
say "building wal2json for PostgreSQL $version"
rm -rf "$tree"
get_source
compile || give_up "it does not compile (see $log)"
mkdir -p "$made"
cp "$tree/wal2json.so" "$made/wal2json.so.new"
mv "$made/wal2json.so.new" "$made/wal2json.so"
rm -rf "$state/build" "$state/apt"
