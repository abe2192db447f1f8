#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bench.sh OURS UPSTREAM [--bounds FILE]: measure both images and report.
. "$TOP/scripts/lib.sh"

ours=$1 upstream=$2
shift 2
out=$BUILD/bench
mkdir -p "$out"

# The clock of such a guest counts instructions, those of all its processors
# together, so it has one. With sleep=off time would leap while it waits for files.
measure() {
	GUEST_QUIET=1 GUEST_TCG=1 GUEST_QEMU="-icount shift=0,sleep=on" GUEST_CPUS=1 GUEST_TIMEOUT=180 \
		GUEST_LOG="bench-$2" "$TOP/scripts/guest.sh" "$1" "$BUILD/bin/bench measure"
}

say "counting instructions on both kernels (about a minute)"
measure "$ours" ours >"$out/ours.txt"
measure "$upstream" upstream >"$out/upstream.txt"
exec bench report "$out/ours.txt" "$out/upstream.txt" "$out" "$@"
