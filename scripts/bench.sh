#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bench.sh OURS UPSTREAM [--bounds FILE]: measure both images and report.
. "$TOP/scripts/lib.sh"

ours=$1 upstream=$2
shift 2
out=$BUILD/bench
mkdir -p "$out"

# measure IMAGE NAME FILE: what the guest prints is added to FILE.
measure() {
	GUEST_QUIET=1 GUEST_CPUS=1 GUEST_TIMEOUT=180 GUEST_LOG="bench-$2" \
		"$TOP/scripts/guest.sh" "$1" "$BUILD/bin/bench measure" >>"$3"
}

# measure_both SUFFIX
measure_both() {
	measure "$ours" ours "$out/ours$1"
	measure "$upstream" upstream "$out/upstream$1"
}

say "counting instructions on both kernels (about a minute)"
rm -f "$out"/*.txt
# The clock of such a guest counts instructions, those of all its processors
# together, so it has one. With sleep=off time would leap while it waits for files.
GUEST_TCG=1 GUEST_QEMU="-icount shift=0,sleep=on"
export GUEST_TCG GUEST_QEMU
measure_both .txt
bench report "$out/ours.txt" "$out/upstream.txt" "$out" "$@"

# Time is for those who look, and no bound is held against it. By turns, since the
# pace of a machine changes.
if [ $# = 0 ] && has_kvm; then
	say "measuring nanoseconds on both kernels (half a minute)"
	unset GUEST_TCG GUEST_QEMU
	for _ in 1 2 3 4 5; do measure_both .ns.txt; done
	bench report "$out/ours.ns.txt" "$out/upstream.ns.txt" "$out/nanoseconds" --nanoseconds
fi
