#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# in-guest.sh DIRECTORY: KUnit, which ran while the kernel booted, and the
# installed selftests in DIRECTORY, until something fails. Says "in TEST" before
# each, so that a crash has a name, and closes with "survived" or
# "caught TEST: what it said".
set -u
cd "$1" || exit 1

mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
said=$(mktemp)

# caught TEST: by the first result that is a failure, or by what was said last.
caught() {
	why=$(grep -m 1 'not ok ' "$said" | sed 's/^[ #]*not ok [0-9]* *//')
	echo "caught $1: ${why:-$(tail -n 1 "$said")}"
	exit 0
}

echo "in KUnit"
cat /sys/kernel/debug/kunit/syscall_user_dispatch/results >"$said" 2>&1
grep -q '^ok 1 syscall_user_dispatch' "$said" || caught KUnit

# All that is listed, but for the benchmark, which asserts nothing. In 64 bits first,
# since what fails mostly fails in both; auditing cannot be undone, so it comes last.
# A test has three times the 45 seconds that the kselftest runner gives it: the
# machine is busy with the build of the next mutant, and slowness is no failure.
listed=$(grep -E '^syscall_user_dispatch:|^ptrace:get_set_sud$' kselftest-list.txt | grep -v sud_benchmark)
last='audit|unmatched'
for test in $(echo "$listed" | grep -vE "_32\$|$last") $(echo "$listed" | grep '_32$' | grep -vE "$last") \
	$(echo "$listed" | grep -E "$last"); do
	name=${test#*:}
	echo "in $name"
	(cd "${test%:*}" && exec timeout -k 10 135 "./$name") >"$said" 2>&1 </dev/null
	case $? in
	0) ;;
	# Not one of them does so of itself: it missed what it tests.
	4) echo "was skipped" >>"$said"; caught "$name" ;;
	124 | 137) echo "did not end" >>"$said"; caught "$name" ;;
	*) caught "$name" ;;
	esac
done
echo survived
