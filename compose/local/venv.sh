#!/usr/bin/env bash
# Make .venv from requirements-dev.lock, with this checkout installed in place. Prints nothing when it is up to
# date. PYTHON names the interpreter to use; else it is the first on PATH that is new enough. Debian's python3
# comes without pip and ensurepip; then pip is taken from its package, which need not be installed for that.

# shellcheck source=compose/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
log=$state/venv.log
# shellcheck source=compose/local/apt.sh
source "$checkout/compose/local/apt.sh"

venv=$checkout/.venv
fingerprint=$(cat "$checkout/requirements-dev.lock" "$checkout/pyproject.toml" | cksum)

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
        [[ -z ${PYTHON:-} ]] || die "PYTHON=$PYTHON is no Python >= 3.11"
    done
    die "no Python >= 3.11 on PATH (PYTHON names one elsewhere)"
}

make_venv() {
    local python wheels
    python=$(find_python)
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv --clear "$venv" >>"$log" 2>&1 || die "$python -m venv fails: see $log"
        return
    fi
    have apt-get || die "$python has no ensurepip: install the package python3-venv"
    "$python" -m venv --clear --without-pip "$venv" >>"$log" 2>&1 || die "$python -m venv fails: see $log"
    apt_update
    fetch_only "$state/pip" python3-pip-whl
    wheels=("$state"/pip/usr/share/python-wheels/pip-*.whl)
    "$venv/bin/python" "${wheels[0]}/pip" install --quiet --no-index "${wheels[0]}" >>"$log" 2>&1 ||
        die "pip does not install: see $log"
    rm -rf "$state/pip"
}

install() {
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" >>"$log" 2>&1 ||
        die "pip fails: $(grep -E '^ *(ERROR|error)' "$log" | tail -n 1) (see $log)"
}

up_to_date() { [[ -x $venv/bin/walvec && $(cat "$venv/fingerprint" 2>/dev/null) == "$fingerprint" ]]; }

! up_to_date || exit 0
lock venv
! up_to_date || exit 0
need_disk 800
: >"$log"
new_enough "$venv/bin/python" || make_venv
say "installing the locked packages into .venv"
install --require-hashes --no-deps -r "$checkout/requirements-dev.lock"
install --no-deps --no-build-isolation --editable "$checkout"
printf '%s' "$fingerprint" >"$venv/fingerprint"
