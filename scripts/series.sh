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

# Neither the user's settings nor a repository around us play a part.
git() {
	command git -c core.hooksPath=/dev/null -c core.autocrlf=false -c commit.gpgSign=false \
		-c user.name="${GIT_AUTHOR_NAME:-$(command git config user.name || echo nobody)}" \
		-c user.email="${GIT_AUTHOR_EMAIL:-$(command git config user.email || echo nobody@localhost)}" \
		-C "$repo" "$@"
}

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

# Only what differs is written, so that only that is built again. The copy
# shares the files of the pristine tree, which rsync replaces and never edits.
linux=$BUILD/linux
if [ "$(cat "$linux/.pristine" 2>/dev/null)" != "$base" ]; then
	room "$BUILD" 6 "a kernel tree and its build"
	say "copying the kernel tree"
	rm -rf "$linux"
	cp -al "$base" "$linux" 2>/dev/null || { rm -rf "$linux"; cp -a "$base" "$linux"; }
	: >"$linux/.patched"
	echo "$base" >"$linux/.pristine"
fi
git ls-files >"$BUILD/series/files"
sort -u "$linux/.patched" "$BUILD/series/files" | while read -r file; do
	if [ -e "$repo/$file" ]; then
		cmp -s "$repo/$file" "$linux/$file" && continue
		mkdir -p "$linux/$(dirname "$file")"
		rsync -a --ignore-times "$repo/$file" "$linux/$file"
		touch "$linux/$file"
	elif [ -e "$base/$file" ]; then
		rsync -a --ignore-times "$base/$file" "$linux/$file"
		touch "$linux/$file"
	else
		rm -f "$linux/$file"
	fi
done
cp "$BUILD/series/files" "$linux/.patched"
