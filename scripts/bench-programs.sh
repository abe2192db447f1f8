#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bench-programs.sh C OURS [--bounds FILE]: run programs whose syscalls are interposed,
# on the two patched images, and report.
. "$TOP/scripts/lib.sh"

patched_c=$1 ours=$2
shift 2
out=$BUILD/bench
interposer=$BUILD/kernel/ours/samples/syscall_user_dispatch/interpose.so
mkdir -p "$out"

# measure SUFFIX REPETITIONS OPTION...
measure() {
	suffix=$1 repetitions=$2
	shift 2
	for kernel in c ours; do
		case $kernel in c) image=$patched_c ;; *) image=$ours ;; esac
		guest -k "$image" -c 1 -t 180 "$@" --console "$BUILD/log/console-programs-$kernel.log" \
			-- "$BUILD/bin/bench" programs "$interposer" "$repetitions" </dev/null >"$out/programs-$kernel$suffix"
	done
}

# compare SUFFIX OUT OPTION...
compare() {
	suffix=$1
	shift
	bench table "$out/programs-c$suffix" "$out/programs-ours$suffix" "$@"
}

say "counting instructions of find, tar and sqlite3 on two kernels (a minute and a half)"
# As for bench.sh: the clock counts instructions.
measure .txt 2 --emulate --qemu=-icount --qemu=shift=0,sleep=on
compare .txt "$out" "$@"

# Time is for those who look, and no bound is held against it.
[ $# = 0 ] || exit 0
say "measuring their time (a minute)"
measure .ns.txt 5
echo
compare .ns.txt "$out/nanoseconds" --nanoseconds
