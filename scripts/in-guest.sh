#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# in-guest.sh RESULTS SUITE...
#
# Run suites in the guest, each with its results as KTAP in RESULTS/SUITE.tap. A
# suite is "kunit", "samples", "stress", "stress-ng", "clients", "injection", or a
# directory of the selftests, with the tests of it that are wanted behind a
# colon: "ptrace:get_set_sud". The suite "differential:SEED:OPERATIONS", and the same with
# "-upcall" or "-ours" behind its name, says something only beside that of another
# kernel, and leaves it as differential.txt.
set -u
results=$1
shift
here=${0%/*}/..

mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing

# The kernel ran its tests while it booted, and kept what they said.
kunit() {
	cat /sys/kernel/debug/kunit/syscall_user_dispatch/results
}

# programs COMMAND...: each is a test, which says by its exit status how it ended.
programs() {
	echo "1..$#"
	number=0
	for program; do
		number=$((number + 1))
		echo "# RUN $program"
		if $program >"$results/program.log" 2>&1 </dev/null; then ok=ok; else ok="not ok"; fi
		sed 's/^/# /' "$results/program.log"
		echo "$ok $number ${program##*/}"
	done
}

# A program and its child say under the interposer what they say without, and their
# syscalls are counted: opening a directory, for one.
interposed() {
	# Not where the results go: what the host shares cannot be mapped by several.
	counts=/tmp/interposed.counts
	set -- sh -c 'find /etc -maxdepth 2 | tail -n 20; exit 7'
	right=$("$@" 2>&1) && return 1
	seen=$(INTERPOSE=$counts LD_PRELOAD=$PWD/interpose.so "$@" 2>&1) || [ $? = 7 ] || return 1
	od -Ad -v -w8 -td8 "$counts" | awk '$2 { calls += $2 } $1 / 8 == 217 { reads = $2 }
		END { print calls, "syscalls,", reads, "of getdents64"; exit !(calls > 500 && reads > 10) }' &&
		[ "$seen" = "$right" ]
}

# Each checks itself.
samples() {
	cd "$here/build/kernel/ours/samples/syscall_user_dispatch" || exit 1
	programs "./personality" "./tracer" "./checkpoint" "./checkpoint inclusive" "./upcall" interposed \
		"$here/build/bin/rustix"
}

# A selftest that is not in the list of selftests.
injection() {
	cd "$here/build/kselftest/syscall_user_dispatch" || exit 1
	programs ./injection ./injection_32
}

# A client that nobody here wrote. It skips in silence where arming is denied, so
# it is asked how much it did.
stress_ng() {
	echo "1..1"
	cd /tmp || exit 1
	timeout 90 stress-ng --usersyscall 4 --timeout 15 --verify --metrics >"$results/stress-ng.log" 2>&1
	status=$?
	sed 's/^/# /' "$results/stress-ng.log"
	done=$(awk '$4 == "usersyscall" && $5 ~ /^[0-9]+$/ { print $5 }' "$results/stress-ng.log")
	if [ $status = 0 ] && [ "${done:-0}" -gt 0 ]; then ok=ok; else ok="not ok"; fi
	echo "$ok 1 stress-ng --usersyscall # $done operations, exit status $status"
}

# Tests of upstream's that emulation cannot run or judge, and why.
unfit() {
	grep -q 'QEMU TCG' /proc/cpuinfo || return 0
	far="QEMU takes its far return from 32-bit code for an access of the kernel, which oopses"
	long="it takes more than five minutes"
	cat <<-LIST
		x86:sysret_ss_attrs_64 $far
		x86:test_syscall_vdso_32 $far
		x86:syscall_numbering_64 $long
		seccomp:seccomp_benchmark it compares nanoseconds
		rseq:basic_percpu_ops_test $long
		rseq:basic_percpu_ops_mm_cid_test $long
		rseq:param_test_benchmark $long
		rseq:param_test_mm_cid_benchmark $long
		rseq:run_param_test.sh $long
	LIST
}

selftests() {
	directory=${1%%:*}
	cd "$here/build/kselftest" || exit 1
	case $1 in
	*:*) set -- $(echo "${1#*:}" | tr , '\n' | sed "s|^|-t $directory:|") ;;
	*) set -- -c "$directory" $(unfit | sed -n "s/^\($directory:[^ ]*\) .*/-S \1/p") ;;
	esac
	./run_kselftest.sh -o 300 "$@" 2>&1 </dev/null
	case $1 in
	-c) unfit | sed -n "s/^$directory:\([^ ]*\) \(.*\)/ok 0 selftests: $directory: \1 # SKIP under emulation: \2/p" ;;
	esac
}

for suite; do
	name=${suite%%:*}
	echo "    ${results##*/}: $name" >&2
	case $suite in
	kunit | samples | injection) $suite >"$results/$name.tap" ;;
	clients) "$here/build/bin/clients" "$here/build/kernel/ours/samples/syscall_user_dispatch" \
		"$here/build/bin/armed" >"$results/$name.tap" ;;
	stress-ng) stress_ng >"$results/$name.tap" ;;
	stress) "$here/build/bin/differential" stress 1 20 --ours >"$results/$name.tap" ;;
	differential:* | differential-*:*)
		style=${name#differential}
		"$here/build/bin/differential" run $(echo "${suite#*:}" | tr : ' ') ${style:+-$style} \
			>"$results/$name.txt"
		;;
	# Their runner opens its output anew for each test: two places in a file would
	# overwrite each other, a pipe has only one.
	*) selftests "$suite" | cat >"$results/$name.tap" ;;
	esac
done
