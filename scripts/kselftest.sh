#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# kselftest.sh TARGET...: build selftests of the patched tree by their lib.mk, and
# install them as build/kselftest.
. "$TOP/scripts/lib.sh"

log=$BUILD/log/kselftest.log
say "building the selftests: $*"
# Like distributions do, by the machine's own compiler; a directory of the
# selftests that cannot be built must not be left out in silence.
rm -rf "$BUILD/kselftest"
make -C "$BUILD/linux/tools/testing/selftests" -j"${J:-$(nproc)}" O="$BUILD/kernel/ours" \
	CC=gcc KHDR_INCLUDES="-isystem $BUILD/kernel/ours/usr/include" \
	FORCE_TARGETS=1 TARGETS="$*" KSFT_INSTALL_PATH="$BUILD/kselftest" install >"$log" 2>&1 ||
	die "the selftests could not be built: $(grep -m 1 -E 'error:|Error' "$log")" "The whole log: $log"
