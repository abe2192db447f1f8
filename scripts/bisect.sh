#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# bisect.sh PROGRAM
#
# Prove that the kernel builds and boots with each patch of the series, and that
# PROGRAM runs on it; with our option on and off, as soon as there is one. It
# takes hours. One tree and one build go from patch to patch, so that only what
# a patch changes is built again. What is proven is noted by content: to run it
# again resumes. PATCH=N is for one patch alone.
. "$TOP/scripts/lib.sh"

option=CONFIG_SYSCALL_USER_DISPATCH_RUST
work=$BUILD/bisect
repo=$work/series.git
base=$TOP/configs/base.config

mkdir -p "$work/proven"
echo "$option=y" >"$work/on.config"
echo "# $option is not set" >"$work/off.config"
: >"$work/without.config"
rm -rf "$repo"
git clone -q "$BUILD/series.git" "$repo"
git() { git_in "$repo" "$@"; }

# prove NUMBER COMMIT VARIANT
prove() {
	fragment=$work/$3.config
	key=$({ git rev-parse "$2^{tree}" && readlink "$BUILD/pristine" && cat "$base" "$fragment"; } | sha1sum | cut -c 1-16)
	what="patch $1 (option $3): $(git log -1 --format=%s "$2")"
	[ ! -e "$work/proven/$key" ] || return 0

	say "$what"
	git checkout -q "$2"
	"$TOP/scripts/overlay.sh" "$repo" "$work/linux"
	"$TOP/scripts/kernel.sh" bisect "$work/linux" "$base" "$fragment" || die "does not build: $what"
	GUEST_QUIET=1 GUEST_LOG=bisect "$TOP/scripts/guest.sh" "$BUILD/kernel/bisect/arch/x86/boot/bzImage" "$program" \
		>"$BUILD/log/bisect.log" 2>&1 || die "does not run ${program##*/}: $what" "Its output: $BUILD/log/bisect.log"
	! grep -E 'WARNING:|BUG:|Oops' "$BUILD/log/console-bisect.log" >&2 || die "the kernel complains: $what"
	echo "$what" >"$work/proven/$key"
}

program=$1 number=0 variants="on off"
for commit in $(git rev-list --reverse base..origin/HEAD); do
	number=$((number + 1))
	[ "${PATCH:-$number}" = $number ] || continue
	git grep -q "${option#CONFIG_}" "$commit" -- '*Kconfig' || { prove $number "$commit" without; continue; }
	# The next patch begins with what is configured: the other would be built twice.
	for variant in $variants; do prove $number "$commit" "$variant"; done
	variants="${variants#* } ${variants% *}"
done
say "${PATCH:+patch $PATCH of }$number patches: each builds and boots"
