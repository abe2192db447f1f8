#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Make the series: each file of patches/ becomes a commit, its diff and the
# whole files that its "Adds:" lines name, on the files of the pristine tree
# that the series touches. From there it is exported as build/series/*.patch,
# and laid over a copy of the pristine tree as build/linux.
. "$TOP/scripts/lib.sh"
lock 9 "$BUILD/.lock" "$BUILD"

repo=$BUILD/series.git
base=$(readlink -f "$BUILD/pristine")
version=$(sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$base/Makefile" | paste -sd.)

git() { git_in "$repo" "$@"; }

rm -rf "$repo" "$BUILD/series"
mkdir -p "$repo" "$BUILD/series"
command git init -q "$repo"

# The files that git keeps below a path; what it ignores is generated.
ours() { (cd "$TOP" && command git ls-files -co --exclude-standard "$@"); }

{
	sed -n 's|^--- a/||p' "$TOP"/patches/*.patch
	ours $(sed -n 's/^Adds: //p' "$TOP"/patches/*.patch)
} | sort -u | while read -r file; do
	[ -e "$base/$file" ] || continue
	mkdir -p "$repo/$(dirname "$file")"
	cp -p "$base/$file" "$repo/$file"
done
git add -A
git commit -qm "Linux $version" --allow-empty
git tag base

for patch in "$TOP"/patches/*.patch; do
	name=${patch##*/}
	git apply --index --allow-empty "$patch" 2>"$BUILD/log/series.log" ||
		die "$name does not fit Linux $version: $(sed -n 's/^error: //p' "$BUILD/log/series.log" | head -n 1)" \
			"The patches are made for Linux 7.3. Name such a tree by KDIR=, or adapt patches/$name."
	sed -n '/^---$/q; s/^Adds: //p' "$patch" | while read -r path; do
		mkdir -p "$repo/$(dirname "$path")"
		ours "$path" | rsync -a --files-from=- "$TOP/" "$repo/"
	done
	git add -A -f
	sed -n '/^---$/q; /^Adds: /d; s/^Subject: //; p' "$patch" | git commit -q --cleanup=whitespace -F -
done
git format-patch -q --no-signature -o "$BUILD/series" base

"$TOP/scripts/overlay.sh" "$repo" "$BUILD/linux"
