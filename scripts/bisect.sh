#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bisect.sh PROGRAM
#
# Prove that the kernel builds and boots with each patch of the series, and
# that PROGRAM runs on it; with our option on and off, as soon as there is one. It
# takes an hour or more. One tree goes from patch to patch, and one build for
# each value of the option, so that only what a patch changes is built again.
# What is proven is noted by content: to run it again resumes. PATCH=fixes/N or
# rust/N is for one patch alone.
. "$TOP/scripts/lib.sh"

option=CONFIG_SYSCALL_USER_DISPATCH_RUST
work=$BUILD/bisect
repo=$work/series.git
base=$TOP/configs/base.config

mkdir -p "$work/proven"
echo "$option=y" >"$work/on.config"
echo "# $option is not set" >"$work/off.config"
rm -rf "$repo"
git clone -q "$BUILD/series.git" "$repo"
git() { git_in "$repo" "$@"; }

# prove COMMIT OPTION FRAGMENT...: in the build for that value of the option
prove() {
	commit=$1 value=$2 flavour=bisect-$2 what="$patch: $(git log -1 --format=%s "$1")"
	shift 2
	[ $# = 1 ] || what="$what (option $value)"
	key=$({ git rev-parse "$commit^{tree}" && readlink "$BUILD/pristine" && cat "$@"; } | sha1sum | cut -c 1-16)
	[ ! -e "$work/proven/$key" ] || return 0

	say "$what"
	git checkout -q "$commit"
	"$TOP/scripts/overlay.sh" "$repo" "$work/linux"
	LIKE=bisect-on "$TOP/scripts/kernel.sh" "$flavour" "$work/linux" "$@" || die "does not build: $what"
	guest -k "$BUILD/kernel/$flavour/arch/x86/boot/bzImage" -t 600 --console "$BUILD/log/console-bisect.log" -- "$program" \
		>"$BUILD/log/bisect.log" 2>&1 </dev/null || die "does not run ${program##*/}: $what" "Its output: $BUILD/log/bisect.log"
	! grep -E 'WARNING:|BUG:|Oops' "$BUILD/log/console-bisect.log" >&2 || die "the kernel complains: $what"
	echo "$what" >"$work/proven/$key"
}

program=$1 tried=0 from=base
for series in $SERIES; do
	number=0
	for commit in $(git rev-list --reverse $from..$series); do
		number=$((number + 1)) patch=$series/$number
		[ "${PATCH:-$patch}" = $patch ] || continue
		tried=$((tried + 1))
		if git grep -q "config ${option#CONFIG_}" "$commit" -- '*Kconfig'; then
			prove "$commit" on "$base" "$work/on.config"
			prove "$commit" off "$base" "$work/off.config"
		else
			prove "$commit" on "$base"
		fi
	done
	from=$series
done
[ $tried != 0 ] || die "there is no patch $PATCH" "Say for example: make patches-bisect PATCH=fixes/1"
say "${PATCH:-each of $tried patches} builds and boots"
