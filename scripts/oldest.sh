#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# oldest.sh DIRECTORY: put the oldest rustc that the series is for into a directory,
# unpacked and not installed. It is that of Debian 12, and runs on later ones.
. "$TOP/scripts/lib.sh"
. "$TOP/scripts/debian.sh"

bin=$1
into=$CACHE/rustc-$RUSTC_MIN
remedy="Leave the target away, or put a rustc $RUSTC_MIN with its library source into $into/bin."
if [ ! -x "$into/bin/rustc" ]; then
	lock 8 "$CACHE/lock" "the tools in $CACHE"
	say "fetching rustc $RUSTC_MIN"
	log=$BUILD/log/oldest.log
	private_apt "$log" "$remedy"
	version=$(papt apt-cache madison rustc-web | awk -v of="$RUSTC_MIN+" 'index($3, of) == 1 { print $3; exit }')
	[ -n "$version" ] || die "Debian has no rustc-web $RUSTC_MIN any more" "$remedy"
	rm -rf "$into.new"
	mkdir -p "$into.new/bin"
	cd "$into.new"
	fetch "$log" "$remedy" "rustc-web=$version" "rust-web-src=$version" "libstd-rust-web-dev=$version" \
		"libstd-rust-web-${RUSTC_MIN%.*}=$version"
	for deb in *.deb; do dpkg-deb -x "$deb" .; done
	rm -- *.deb
	cat >bin/rustc <<-SCRIPT
		#!/bin/sh
		export LD_LIBRARY_PATH=$into/usr/lib/x86_64-linux-gnu:$into/usr/lib
		exec $into/usr/bin/rustc "\$@"
	SCRIPT
	chmod +x bin/rustc
	mv "$into.new" "$into"
	cd "$TOP"
	exec 8>&-
fi
runs=$("$into/bin/rustc" --version 2>&1) || die "rustc $RUSTC_MIN does not run here: $runs" "$remedy"
mkdir -p "$bin"
ln -sfn "$into/bin/rustc" "$bin/rustc"
