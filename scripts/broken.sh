#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# broken.sh KERNEL.SH-ARGUMENT...: whether console.sh notices what it is there to
# notice, as KTAP. For that the debug kernel is built with mistakes in our Rust,
# and makes them in a guest.
#
# Like the mutants it is built where the debug kernel was, below private copies of
# all that changes, so that there is nothing to restore, however a run ends.
. "$TOP/scripts/lib.sh"

# FILE%EDIT%REPORT: a line changed by sed, and what the kernel says to it. They
# read beyond a variable, sleep while RCU must not, and overflow.
mistakes='effects.rs%s/^\( *\)trace::dispatch(&entry, 0);/\1let _ = unsafe { core::hint::black_box(\&raw const entry).wrapping_add(1).cast::<usize>().read_volatile() };\n&/%KASAN: stack-out-of-bounds
user_dispatch.rs%s/^\( *\)let config = Config::from/\1let _guard = kernel::sync::rcu::read_lock();\n&/%sleeping function called from invalid context
policy.rs%s/len: len.wrapping_neg()/len: 0 - len/%panicked at kernel/entry/user_dispatch/policy.rs'

out=$BUILD/broken
rust=kernel/entry/user_dispatch

room "$BUILD" 3 "a copy of the debug kernel's build"
say "building the debug kernel with mistakes (1 to 3 minutes)"
lock 9 "$BUILD/.lock" "$BUILD"
rm -rf "$out"
mkdir "$out"
cp -a "$BUILD/kernel/debug" "$out/kernel"
cp -a "$BUILD/linux/$rust" "$out/rust"
exec 9>&-

printf "%s\n" "$mistakes" | while IFS=% read -r file edit report; do
	sed -i "$edit" "$out/rust/$file"
	! cmp -s "$out/rust/$file" "$BUILD/linux/$rust/$file" ||
		die "$rust/$file has no line for the mistake '$edit'" "Adapt scripts/broken.sh to what is there now."
done

user=
[ "$(id -u)" = 0 ] || user=--map-root-user
unshare $user --mount sh -euc '
	mount --bind "$1/kernel" "$BUILD/kernel/debug"
	mount --bind "$1/rust" "$BUILD/linux/$2"
	shift 2
	exec "$TOP/scripts/kernel.sh" "$@"' sh "$out" "$rust" "$@" ||
	die "the broken kernel could not be built" "Run it as root, or allow user namespaces to users."

# The overflow comes last, as the panic ends the guest.
guest -k "$out/kernel/arch/x86/boot/bzImage" -c 1 -t 600 --console "$BUILD/log/console-broken.log" -- \
	sh -c "cd $BUILD/kselftest/syscall_user_dispatch; ../ptrace/get_set_sud; \
	 ./sud_test -t dispatch_trigger_sigsys; ./arming" >"$BUILD/log/broken.log" 2>&1 </dev/null || :
seen=$("$TOP/scripts/console.sh" "$BUILD/log/console-broken.log")
rm -rf "$out"

echo "KTAP version 1"
echo "1..3"
number=0
printf "%s\n" "$mistakes" | while IFS=% read -r file edit report; do
	number=$((number + 1))
	line=$(echo "$seen" | grep -m 1 "^# .*$report") && ok=ok || ok="not ok"
	echo "${line:-# no such line}"
	echo "$ok $number a mistake in $file is noticed: $report"
done
