#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# mutants.sh PROGRAM: change the Rust of the kernel in one place after the other,
# and see whether the tests notice.
#
# Kbuild builds everything again when its directories move, so the mutants are
# built where the kernel was: in a mount namespace of our own, where private
# copies lie over the build directory and over the few sources that change. What
# is underneath is never touched, so there is nothing to restore, however a run
# ends.
. "$TOP/scripts/lib.sh"

# The last one that is content with the rustc that setup.sh asks for.
VERSION=26.0.0
# What is changed, in the tree: the crate, and what it includes of the architecture.
export SOURCES="kernel/entry/user_dispatch arch/x86/include/asm/syscall_user_dispatch.rs"

out=$BUILD/mutants
lock 7 "$out/.lock" "the mutants in $out"

tool=$CACHE/cargo-mutants-$VERSION
if [ ! -x "$tool/bin/cargo-mutants" ]; then
	have cargo || die "cargo is missing, which builds cargo-mutants" "Install it: apt-get install cargo"
	lock 8 "$CACHE/lock" "the tools in $CACHE"
	room "$CACHE" 1 "building cargo-mutants"
	say "building cargo-mutants $VERSION (2 to 4 minutes, once)"
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
		cargo install --quiet --locked --root "$tool" "cargo-mutants@$VERSION" >"$BUILD/log/cargo-mutants.log" 2>&1 ||
		die "cargo-mutants could not be built: $(grep -m 1 '^error' "$BUILD/log/cargo-mutants.log")" \
			"Is there a network? (whole log: $BUILD/log/cargo-mutants.log)"
	exec 8>&-
fi

room "$out" 2 "a copy of the kernel build"
say "copying the kernel build"
lock 9 "$BUILD/.lock" "$BUILD"
rm -rf "$out/kernel" "$out/source" "$out"/bzImage.*
cp -a "$BUILD/kernel/ours" "$out/kernel"
mkdir "$out/source"
(cd "$BUILD/linux" && cp -a --parents $SOURCES "$out/source")
exec 9>&-

# As kernel.sh has it, so that nothing is built that does not change.
export MAKEFLAGS="${LLVM:+LLVM=1}"
export KBUILD_BUILD_TIMESTAMP="${KBUILD_BUILD_TIMESTAMP:-$(date -u -r "$BUILD/linux/Makefile")}"
export KBUILD_BUILD_USER=sud KBUILD_BUILD_HOST=localhost

user=
[ "$(id -u)" = 0 ] || user=--map-root-user
unshare $user --mount true 2>/dev/null ||
	die "no mount namespace can be made here" "Run it as root, or allow user namespaces to users."
exec unshare $user --mount sh -euc '
	mount --bind "$1/kernel" "$BUILD/kernel/ours"
	for source in $SOURCES; do mount --bind "$1/source/$source" "$BUILD/linux/$source"; done
	exec "$2" "$3"' sh "$out" "$1" "$tool/bin/cargo-mutants"
