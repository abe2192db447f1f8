#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# [LIKE=FLAVOUR] kernel.sh FLAVOUR SOURCE FRAGMENT...
#
# Configure and build a kernel out of tree: build/kernel/FLAVOUR from SOURCE,
# with the fragments merged into Kconfig's defaults; a later fragment overrides.
. "$TOP/scripts/lib.sh"
lock 9 "$BUILD/.lock" "$BUILD"

flavour=$1 source=$2
shift 2
out=$BUILD/kernel/$flavour
log=$BUILD/log/kernel-$flavour.log

# A build that is much like another one starts as its copy.
like=${LIKE:+$BUILD/kernel/$LIKE}
if [ -n "$like" ] && [ -e "$like" ] && [ ! -e "$out" ]; then
	rm -rf "$out.new"
	cp -a "$like" "$out.new"
	rm -f "$out.new/.built"
	mv "$out.new" "$out"
fi
mkdir -p "$out"
memory=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$memory" -ge 2 ] || die "only $memory GiB of memory available, of which a kernel build needs 2" \
	"End other programs, or build with fewer jobs (make J=1)."

# For whatever runs make below us, merge_config.sh included. As in the kernel,
# LLVM= asks for clang instead of gcc; build/bin has its tools without suffix.
# One more than processors: something always waits for a file.
jobs=${J:-$(($(nproc) + 1))}
samples=$(cd "$source" && ls -d samples/syscall_user_dispatch/ 2>/dev/null || :)
export MAKEFLAGS="${LLVM:+LLVM=1}"
export KBUILD_BUILD_TIMESTAMP="${KBUILD_BUILD_TIMESTAMP:-$(date -u -r "$source/Makefile")}"
export KBUILD_BUILD_USER=sud KBUILD_BUILD_HOST=localhost

# Configure when a fragment or a Kconfig file is new, not each time: Kbuild
# notices by itself what changed.
stamp=$out/.fragments
if [ ! -e "$out/.config" ] || ! cat "$@" | cmp -s - "$stamp" ||
   [ -n "$(find "$source/kernel/entry" "$source/samples" "$source/arch/Kconfig" -name 'Kconfig*' -newer "$stamp")" ]; then
	room "$BUILD" 4 "a kernel build"
	rm -f "$stamp" "$out/.config"
	# A later fragment may take back what an earlier one says, for which merge_config.sh
	# would refuse both.
	requested=$out/.requested
	awk '{ symbol = $1 == "#" ? $2 : $1; sub(/=.*/, "", symbol) }
	     symbol ~ /^CONFIG_/ { line[symbol] = $0 }
	     END { for (symbol in line) print line[symbol] }' "$@" | sort >"$requested"
	(cd "$source" && sh scripts/kconfig/merge_config.sh -s -O "$out" "$requested") >"$log" 2>&1 9>&- ||
		die "the kernel could not be configured as requested:" \
			"$(grep -vxFf "$out/.config" "$requested" || tail -n 1 "$log")" \
			"Adapt the fragments: $* (whole log: $log)."
	cat "$@" >"$stamp"
fi

# The first time it takes long.
case $flavour in c) guess=1000:300 ;; debug) guess=3000:1200 ;; *) guess=3000:600 ;; esac
long() {
	progress --name "kernel-$flavour" --what "building the kernel ($flavour), once" \
		--guess $guess --of "$log" -- "$@"
}
[ ! -e "$out/.built" ] || long() { "$@"; }

: >"$log"
long sh -c 'log=$1; shift; exec "$@" >>"$log" 2>&1' sh "$log" \
	make -C "$source" O="$out" -j"$jobs" bzImage headers $samples 9>&- ||
	die "the kernel build ($flavour) failed:" "$(grep -m 3 -A 8 -E '^error|[^ ]: (fatal )?error: |No space|^ld' "$log" || tail -n 5 "$log")" \
		"The whole log: $log"
touch "$out/.built"
# Ours must not warn; upstream's warnings are upstream's.
if grep -E -A 3 '(^|: )warning: |: warning:' "$log" | grep -E 'user_dispatch|rust/helpers/syscall' >&2; then
	die "the compiler warns about our code (whole log: $log)"
fi
