#!/bin/sh
# Keep the place of walvec's slot, a copy for each of the last days, for `walvec replay`: walvec-copy.sh SLOT DAYS.
# The copies are called SLOT_copy_0 to SLOT_copy_(DAYS - 1); WALVEC_CONFIG names the settings.
#
# The oldest copy goes once another one has been made: where the slot is lost, what there is stays.
set -eu
slot=$1
copy=${slot}_copy_$(($(date +%s) / 86400 % $2))

exists() { walvec slots list --json | grep -q "\"name\": \"$1\""; }
drop() { ! exists "$1" || walvec slots drop --yes "$1"; }

drop "${slot}_copy_new"
walvec slots copy "$slot" "${slot}_copy_new"
drop "$copy"
walvec slots copy "${slot}_copy_new" "$copy"
walvec slots drop --yes "${slot}_copy_new"
