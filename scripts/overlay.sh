#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# overlay.sh REPOSITORY TREE
#
# Lay the files of REPOSITORY, which are some of the kernel's, over TREE, a copy
# of the pristine one. Only what differs is written, so that only that is built
# again; and it is as new as it is here, whatever its age where it comes from, or
# it would not be. The copy shares the files of the pristine tree, which rsync
# replaces and never edits.
. "$TOP/scripts/lib.sh"

repo=$1 tree=$2
base=$(readlink -f "$BUILD/pristine")

if [ ! -e "$tree/.pristine" ]; then
	room "$BUILD" 6 "a kernel tree and its build"
	say "copying the kernel tree"
	rm -rf "$tree"
	cp -al "$base" "$tree" 2>/dev/null || { rm -rf "$tree"; cp -a "$base" "$tree"; }
	: >"$tree/.patched"
elif [ -n "${KDIR:-}" ] || [ "$(cat "$tree/.pristine")" != "$base" ]; then
	say "comparing the kernel tree (half a minute)"
	sed 's|^|/|' "$tree/.patched" | rsync -rlq --checksum --delete --exclude-from=- \
		--exclude=/.patched --exclude=/.pristine "$base/" "$tree/"
fi
echo "$base" >"$tree/.pristine"

files=$(git_in "$repo" ls-files)
printf '%s\n' "$files" | sort -u - "$tree/.patched" | while read -r file; do
	if [ -e "$repo/$file" ]; then
		cmp -s "$repo/$file" "$tree/$file" && continue
		mkdir -p "$tree/$(dirname "$file")"
		rsync -a --ignore-times "$repo/$file" "$tree/$file"
		touch "$tree/$file"
	elif [ -e "$base/$file" ]; then
		rsync -a --ignore-times "$base/$file" "$tree/$file"
		touch "$tree/$file"
	else
		rm -f "$tree/$file"
	fi
done
printf '%s\n' "$files" >"$tree/.patched"
