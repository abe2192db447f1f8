#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bench.sh UPSTREAM C OURS [--bounds FILE]: measure the three images and report.
. "$TOP/scripts/lib.sh"

upstream=$1 patched_c=$2 ours=$3
shift 3
out=$BUILD/bench
mkdir -p "$out"

# measure IMAGE NAME FILE: what the guest prints is added to FILE.
measure() {
	GUEST_QUIET=1 GUEST_CPUS=1 GUEST_TIMEOUT=180 GUEST_LOG="bench-$2" \
		"$TOP/scripts/guest.sh" "$1" "$BUILD/bin/bench measure" >>"$3"
}

# measure_all SUFFIX
measure_all() {
	measure "$upstream" upstream "$out/upstream$1"
	measure "$patched_c" c "$out/c$1"
	measure "$ours" ours "$out/ours$1"
}

# compare SUFFIX OUT OPTION...
compare() {
	suffix=$1
	shift
	bench report "$out/upstream$suffix" "$out/c$suffix" "$out/ours$suffix" "$@"
}

say "counting instructions on three kernels (half a minute)"
rm -f "$out"/*.txt
# The clock of such a guest counts instructions, those of all its processors
# together, so it has one. With sleep=off time would leap while it waits for files.
GUEST_TCG=1 GUEST_QEMU="-icount shift=0,sleep=on"
export GUEST_TCG GUEST_QEMU
measure_all .txt
compare .txt "$out" "$@"

# Time is for those who look, and no bound is held against it. By turns, since the
# pace of a machine changes.
if [ $# = 0 ] && has_kvm; then
	say "measuring nanoseconds on three kernels (a minute and a half)"
	unset GUEST_TCG GUEST_QEMU
	for _ in 1 2 3 4 5; do measure_all .ns.txt; done
	compare .ns.txt "$out/nanoseconds" --nanoseconds
fi
