#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# example.sh NAME: build examples/NAME by cargo, and link its program into
# build/bin. It needs crates, so it cannot be a sample that Kbuild builds.
. "$TOP/scripts/lib.sh"

log=$BUILD/log/example-$1.log
RUSTC=$BUILD/bin/rustc cargo build --quiet --locked --manifest-path "$TOP/examples/$1/Cargo.toml" \
	--target-dir "$BUILD/examples" >"$log" 2>&1 ||
	die "examples/$1 could not be built: $(grep -m 1 '^error' "$log")" \
		"Are its crates within reach, by the network or cargo's cache? (whole log: $log)"
ln -sfn "../examples/debug/$1" "$BUILD/bin/$1"
