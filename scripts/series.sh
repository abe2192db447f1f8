#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Make the series: each file of patches/SERIES/ becomes a commit, its diff and the
# whole files that its "Adds:" lines name, on the files of the pristine tree that
# the series touch. One series follows the other, and a tag named after it is its
# end. From there they are exported as build/series/SERIES/*.patch, and laid over a
# copy of the pristine tree as build/linux.
. "$TOP/scripts/lib.sh"
lock 9 "$BUILD/.lock" "$BUILD"

repo=$BUILD/series.git
base=$(readlink -f "$BUILD/pristine")
version=$(sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$base/Makefile" | paste -sd.)

git() { git_in "$repo" "$@"; }
log=$BUILD/log/series.log

rm -rf "$repo" "$BUILD/series"
mkdir -p "$repo" "$BUILD/series"
command git init -q "$repo"

# The files that git keeps below a path; what it ignores is generated.
ours() { (cd "$TOP" && command git ls-files -co --exclude-standard "$@"); }

{
	sed -n 's|^--- a/||p' "$TOP"/patches/*/*.patch
	ours $(sed -n 's/^Adds: //p' "$TOP"/patches/*/*.patch)
} | sort -u | while read -r file; do
	[ -e "$base/$file" ] || continue
	mkdir -p "$repo/$(dirname "$file")"
	cp -p "$base/$file" "$repo/$file"
done
git add -A
git commit -qm "Linux $version" --allow-empty
git tag base

previous=base
for series in $SERIES; do
	for patch in "$TOP/patches/$series"/*.patch; do
		name=${patch#"$TOP"/patches/}
		git apply --index --allow-empty "$patch" 2>"$log" ||
			die "$name does not fit Linux $version: $(sed -n 's/^error: //p' "$log" | head -n 1)" \
				"The patches are made for Linux 7.3. Name such a tree by KDIR=, or adapt patches/$name."
		sed -n '/^---$/q; s/^Adds: //p' "$patch" | while read -r path; do
			files=$(ours "$path")
			[ -n "$files" ] || die "$name adds $path, which is not there" "Mend its Adds: line."
			echo "$files" | rsync -a --files-from=- "$TOP/" "$repo/"
		done
		git add -A -f
		sed -n '/^---$/q; /^Adds: /d; s/^Subject: //; p' "$patch" | git commit -q --allow-empty --cleanup=whitespace -F -
	done
	git tag "$series"
	git format-patch -q --no-signature -o "$BUILD/series/$series" "$previous..$series"
	previous=$series
done

# What no patch adds would be tested by nobody and mailed to nobody.
ours $MIRRORED | while read -r file; do
	[ -e "$repo/$file" ] || die "no patch adds $file" "Name it in an Adds: line, or remove it."
done

"$TOP/scripts/overlay.sh" "$repo" "$BUILD/linux"
