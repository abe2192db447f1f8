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
	# shellcheck disable=SC2086 # a list of words
	guest -k "$1" -c 1 -t 180 $how --console "$BUILD/log/console-bench-$2.log" -- "$BUILD/bin/bench" measure </dev/null >>"$3"
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
how="--emulate --qemu=-icount --qemu=shift=0,sleep=on"
measure_all .txt
compare .txt "$out" "$@"

# Time is for those who look, and no bound is held against it. By turns, since the
# pace of a machine changes.
if [ $# = 0 ] && has_kvm; then
	say "measuring nanoseconds on three kernels (a minute and a half)"
	how=
	for _ in 1 2 3 4 5; do measure_all .ns.txt; done
	compare .ns.txt "$out/nanoseconds" --nanoseconds
fi
