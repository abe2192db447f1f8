#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Provide the pristine kernel source as build/pristine: Debian's linux-source,
# unpacked in the cache, or a copy of the tree that KDIR= names.
. "$TOP/scripts/lib.sh"
. "$TOP/scripts/debian.sh"
lock 9 "$BUILD/.lock" "$BUILD"

VERSION=7.3

# tree_version DIRECTORY
tree_version() {
	awk '$1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { p = $3 } $1 == "SUBLEVEL" { s = $3; exit }
	     END { print v "." p (s == "" || s == 0 ? "" : "." s) }' "$1/Makefile"
}

from_kdir() {
	[ -f "$KDIR/Kbuild" ] && [ -d "$KDIR/kernel/entry" ] && [ -f "$KDIR/rust/Makefile" ] ||
		die "KDIR=$KDIR is not a kernel tree with generic entry and Rust" \
			"Name the top directory of a Linux $VERSION source tree."
	[ ! -e "$KDIR/kernel/entry/user_dispatch" ] ||
		die "KDIR=$KDIR carries Syscall User Dispatch in Rust already" \
			"Name a pristine tree, or take the patches out of this one first."
	kdir=$(cd "$KDIR" && pwd -P)

	room "$BUILD" 8 "a copy of KDIR and the builds"
	say "copying $kdir ($(tree_version "$kdir")); it is only read"
	mkdir -p "$BUILD/kdir"
	# What differs is as new as it is here, or it would not be built again.
	rsync -rl --checksum --delete --exclude=/.git --exclude='*.o' --exclude='*.cmd' "$kdir/" "$BUILD/kdir/"
	# A tree that was built in place cannot serve for builds elsewhere.
	if [ -e "$BUILD/kdir/.config" ] || [ -d "$BUILD/kdir/include/config" ]; then
		make -s -C "$BUILD/kdir" mrproper >/dev/null 2>&1
	fi
	ln -sfn kdir "$BUILD/pristine"
}

from_debian() {
	lock 8 "$CACHE/lock" "the downloads in $CACHE"
	room "$CACHE" 3 "the kernel source"

	say "asking Debian for the source of Linux $VERSION"
	log=$BUILD/log/source.log remedy="Or name a Linux $VERSION source tree by KDIR=."
	private_apt "$log" "$remedy"

	# The version we want, else the newest: whether the patches fit, they say.
	package=linux-source-$VERSION
	offered=$(papt apt-cache search --names-only '^linux-source-[0-9.]+$' | awk '{ print $1 }' | sort -V)
	[ -n "$offered" ] || die "no suite of Debian carries a linux-source" \
		"Name a Linux $VERSION source tree by KDIR=."
	if ! echo "$offered" | grep -qx "$package"; then
		package=$(echo "$offered" | tail -n 1)
		say "no suite carries Linux $VERSION any more; trying $package"
	fi

	cd "$apt"
	long() { progress --name fetch --what "fetching $package" --guess 160:60 --size --of "$apt/*.deb" -- "$@"; }
	LONG=long fetch "$log" "$remedy" "$package"
	deb=$(ls -v "$package"_*.deb | tail -n 1)

	rm -rf unpack
	mkdir unpack
	progress --name unpack --what "unpacking it" --guess 0:40 -- sh -c \
		'dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards "./usr/src/*.tar.xz" |
			tar -xJ -C unpack --strip-components=1' sh "$deb" ||
		die "$deb could not be unpacked" "Remove $CACHE/apt and try again."
	tree=$CACHE/linux-$(tree_version unpack)
	rm -rf "$tree"
	mv unpack "$tree"
	rm -f ./*.deb
	cd "$TOP"
}

mkdir -p "$BUILD/log"
if [ -n "${KDIR:-}" ]; then
	from_kdir
else
	cached() { ls -dv "$CACHE/linux-$VERSION"* 2>/dev/null | tail -n 1; }
	tree=$(cached)
	[ -n "$tree" ] || from_debian
	ln -sfn "$tree" "$BUILD/pristine"
fi
echo "${KDIR:-}" >"$BUILD/.kdir"
