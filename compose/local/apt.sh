# apt without touching the system's: lists, cache and package state of our own, sources read from the machine's
# configuration at the time. Sourced by postgres.sh, which says where the packages go.
# shellcheck shell=bash disable=SC2154  # state comes from common.sh; log is set by who sources this

# Debian's and Ubuntu's releases that have pgvector's source, for those that do not.
pgvector_release() {
    case $(. /etc/os-release && printf '%s' "${ID:-}") in
        debian) printf trixie ;;
        ubuntu) printf noble ;;
        *) return 1 ;;
    esac
}

# Settings for every apt command below. The machine's hooks stay out (they clean the system's cache), the way
# to its mirrors stays in (proxies, certificates). As root, apt would drop to a user that may not enter here.
apt_configure() {
    local apt=$state/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    {
        apt-config dump | grep -E '^(APT::Architecture|APT::Default-Release|Acquire::)' || true
        cat <<CONF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::State "$apt";
Dir::State::lists "$apt/lists/";
Dir::State::status "/var/lib/dpkg/status";
Dir::State::extended_states "$apt/extended_states";
Dir::Cache "$apt/cache";
Dir::Log "$apt";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
    } >"$apt/apt.conf"
    chmod 600 "$apt/apt.conf" # a proxy's password may stand in it
}

private_apt() { APT_CONFIG=$state/apt/apt.conf "$@"; }

apt_update() {
    lists_fresh && return
    apt_configure
    say "reading the package lists"
    # A source that cannot be reached fails nothing here: what is needed may come from the others.
    private_apt apt-get -q update >>"$log" 2>&1 || true
    ! package_exists dpkg || touch "$state/apt/updated"
}

lists_fresh() { [[ -n $(find "$state/apt/updated" -mmin -60 2>/dev/null) ]]; }

package_exists() { [[ -n $(private_apt apt-cache madison "$1" 2>/dev/null) ]]; }

newest_wal2json() {
    private_apt apt-cache search --names-only '^postgresql-[0-9]+-wal2json$' |
        grep -oE '[0-9]+-wal2json' | sort -n | tail -n 1 | grep -oE '^[0-9]+'
}

# fetch_with_libraries DIR PACKAGE…: the packages, and what this machine lacks of what they need, unpacked in DIR.
# Left out: what only the packages' own install scripts use, and LLVM (100 MB), which only JIT needs.
fetch_with_libraries() {
    local dir=$1 plan
    shift
    plan=$(private_apt apt-get -s -q --no-install-recommends install "$@" 2>>"$log") ||
        die "apt cannot provide $*: see $log"
    # shellcheck disable=SC2046  # a package name holds no white space
    fetch_only "$dir" "$@" $(awk '$1 == "Inst" { print $2 }' <<<"$plan" |
        grep -E '^(lib|gcc|cpp|binutils|linux-libc-dev)' | grep -vE '^lib(llvm|z3)|-perl$|^libc6$')
}

# fetch_only DIR PACKAGE…: these packages and no others.
fetch_only() {
    local dir=$1 deb
    shift
    mkdir -p "$dir"
    rm -f "$state"/apt/debs/*
    (cd "$state/apt/debs" && private_apt apt-get -q download "$@") >>"$log" 2>&1 ||
        die "apt cannot download $*: see $log"
    for deb in "$state"/apt/debs/*.deb; do
        dpkg-deb -x "$deb" "$dir"
    done
}

# fetch_source NAME DIR: upstream's source of a Debian package, from the machine's own mirror, with the release
# changed to one that has it.
fetch_source() {
    local name=$1 dir=$2 release mirror archive
    release=$(pgvector_release) || die "no package of $name in this machine's apt sources"
    # shellcheck disable=SC2016  # apt fills these in
    mirror=$(private_apt apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")" '$2 == release && $3 == "main" { print $1; exit }')
    [[ -n $mirror ]] || die "this machine's apt sources do not name a mirror of its own release"
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$dir" "$state/apt/source/lists/partial"
    printf 'deb-src %s %s %s main\n' "$([[ -e $keyring ]] && printf '[signed-by=%s]' "$keyring")" "$mirror" "$release" \
        >"$state/apt/source/sources.list"
    (
        cd "$state/apt/source"
        options=(-q -o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$PWD/lists/")
        private_apt apt-get "${options[@]}" update
        private_apt apt-get "${options[@]}" source --download-only "$name"
    ) >>"$log" 2>&1 || die "apt cannot download the source of $name: see $log"
    for archive in "$state/apt/source/${name}"_*.orig.tar.*; do
        tar -xf "$archive" -C "$dir" --strip-components 1
    done
}
