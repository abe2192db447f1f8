#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# host.sh PROGRAM...: build programs of the workspace by cargo, and link them into build/bin.
. "$TOP/scripts/lib.sh"

log=$BUILD/log/host-$1.log
[ -e "$BUILD/host/release/$1" ] || say "building programs of the host: $* (a minute, once)"
packages=$(printf -- '-p %s ' "$@")
# shellcheck disable=SC2086 # a list of words
RUSTC=$BUILD/bin/rustc cargo build --release --locked --manifest-path "$TOP/Cargo.toml" \
	--target-dir "$BUILD/host" $packages >"$log" 2>&1 ||
	die "the programs of the host could not be built: $(grep -m 1 -A 4 '^error' "$log" || tail -n 1 "$log")" \
		"Are their crates within reach, by the network or cargo's cache? (whole log: $log)"
for program in "$@"; do ln -sfn "../host/release/$program" "$BUILD/bin/$program"; done
