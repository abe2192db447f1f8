#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Make the series: each file of patches/ becomes a commit, its diff and the
# whole files that its "Adds:" lines name, on the files of the pristine tree
# that the series touches. What later diffs change in a whole file is taken out
# of it before, so that those lines, too, exist only once. From there the series
# is exported as build/series/*.patch, and laid over a copy of the pristine tree
# as build/linux.
. "$TOP/scripts/lib.sh"
lock 9 "$BUILD/.lock" "$BUILD"

repo=$BUILD/series.git
base=$(readlink -f "$BUILD/pristine")
version=$(sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$base/Makefile" | paste -sd.)
# A kernel version that needs a patch in another way has it as a variant.
variants=$TOP/patches/${version%.*}
patches=$(cd "$TOP/patches" && for patch in *.patch; do
	[ -e "$variants/$patch" ] && echo "$variants/$patch" || echo "$PWD/$patch"
done)

git() { git_in "$repo" "$@"; }
log=$BUILD/log/series.log
why() { sed -n 's/^error: //p' "$log" | head -n 1; }

rm -rf "$repo" "$BUILD/series"
mkdir -p "$repo" "$BUILD/series"
command git init -q "$repo"

# The files that git keeps below a path; what it ignores is generated.
ours() { (cd "$TOP" && command git ls-files -co --exclude-standard "$@"); }

{
	sed -n 's|^--- a/||p' $patches
	ours $(sed -n 's/^Adds: //p' $patches)
} | sort -u | while read -r file; do
	[ -e "$base/$file" ] || continue
	mkdir -p "$repo/$(dirname "$file")"
	cp -p "$base/$file" "$repo/$file"
done
git add -A
git commit -qm "Linux $version" --allow-empty
git tag base

# take_out PATH: what the patches after this one put into the files below PATH, the
# last one first.
take_out() {
	for later in $(grep -lE "^\+\+\+ b/$1(/|\$)" /dev/null $(echo "$patches" | sed "1,\|^$patch\$|d" | tac)); do
		git apply -R --include="$1" --include="$1/*" "$later" 2>"$log" ||
			die "${later#"$TOP"/patches/} cannot be taken out of $1: $(why)" \
				"Its diff shows lines that are different now: adapt ${later#"$TOP"/}."
	done
}

for patch in $patches; do
	name=${patch#"$TOP"/patches/}
	git apply --index --allow-empty "$patch" 2>"$log" ||
		die "$name does not fit Linux $version: $(why)" \
			"The patches are made for Linux 7.3. Name such a tree by KDIR=, or adapt patches/$name."
	sed -n '/^---$/q; s/^Adds: //p' "$patch" | while read -r path; do
		mkdir -p "$repo/$(dirname "$path")"
		ours "$path" | rsync -a --files-from=- "$TOP/" "$repo/"
		take_out "$path"
	done
	git add -A -f
	sed -n '/^---$/q; /^Adds: /d; s/^Subject: //; p' "$patch" | git commit -q --cleanup=whitespace -F -
done
git format-patch -q --no-signature -o "$BUILD/series" base

"$TOP/scripts/overlay.sh" "$repo" "$BUILD/linux"
