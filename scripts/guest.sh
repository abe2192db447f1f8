#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# guest.sh IMAGE [COMMAND]
#
# Boot IMAGE by virtme-ng over the root file system of this machine, copy on
# write, and run COMMAND, or a shell. Exits as COMMAND does. Standard output and
# error are those of COMMAND alone; the console goes to a file.
#
# From the environment: GUEST_TIMEOUT seconds, GUEST_CPUS, GUEST_APPEND for the
# kernel command line, GUEST_QEMU for QEMU, GUEST_RW for a directory that the
# guest may write to, GUEST_LOG a name for the console.
. "$TOP/scripts/lib.sh"

image=$1
[ -e "$image" ] || die "$image is not built" "Run 'make build' first."

# GUEST_TCG asks for emulation where KVM works.
accel= cpus=2
if [ -n "${GUEST_TCG:-}" ] || ! has_kvm; then
	accel=--disable-kvm
	# Where the kernel patches its own text, as to switch a tracepoint, QEMU 7.2 lets
	# another processor run into a breakpoint that is gone already: one has to do.
	cpus=1
	# On a busy host the guest would miss the interrupts by which it checks its timer.
	GUEST_APPEND="${GUEST_APPEND:+$GUEST_APPEND }no_timer_check"
	[ -n "${GUEST_QUIET:-}" ] || say "no KVM here: QEMU emulates the processor, which is slow and works"
fi

set -- --run "$image" --force-9p --disable-monitor --user root --cpus "${GUEST_CPUS:-$cpus}" --memory 1G \
	$accel ${GUEST_QEMU:+"--qemu-opts=$GUEST_QEMU"} ${GUEST_RW:+"--rwdir=$GUEST_RW"} ${GUEST_APPEND:+--append "$GUEST_APPEND"} ${2:+--exec "$2"}
[ "${GUEST_DRY:-}" ] && exec vng --dry-run "$@"
case " $* " in
*" --exec "*) ;;
*) exec vng "$@" ;;
esac

console=$BUILD/log/console-${GUEST_LOG:-$$}.log
: >"$console"

# The second serial port is the console. QEMU opens our output anew, which would
# empty a file, so it gets pipes. timeout makes a group of the guest and all that
# belongs to it, which ends with it.
boot() {
	timeout -k 10 "${GUEST_TIMEOUT:-600}" vng "$@" \
		--append "earlycon=uart8250,io,0x2f8 console=ttyS1 ignore_loglevel oops=panic" \
		--qemu-opts="-serial file:$console" </dev/null &
	echo $! >"$console.pid"
	wait $! && echo 0 >"$console.status" || echo $? >"$console.status"
}
trap 'kill $(cat "$console.pid"); rm -f "$console".*; exit 130' INT TERM HUP
{ boot "$@" 2>&1 >&3 3>&- | cat >&2; } 3>&1 | cat &
wait $!
trap - INT TERM HUP
status=$(cat "$console.status")
rm -f "$console".*

case $status in
124 | 137) why="did not end within ${GUEST_TIMEOUT:-600} seconds" ;;
255) why="ended without an exit status: it crashed or could not boot" ;;
*) exit $status ;;
esac
printf '%s\n' "error: the guest $why. The last lines of its console:" >&2
tail -n 30 "$console" | sed 's/^/    /' >&2
die "whole console: $console" "Is it the kernel? 'make exec KERNEL=upstream CMD=...' runs the same on upstream's."
