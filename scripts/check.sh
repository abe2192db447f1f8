#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The static checks, as KTAP: format, lints, warnings, references, style.
. "$TOP/scripts/lib.sh"

out=$BUILD/kernel/ours
linux=$BUILD/linux
object=$out/kernel/entry/user_dispatch/user_dispatch.o
rust=$(cd "$TOP" && git ls-files 'kernel/*.rs' 'samples/*.rs' 'scripts/*.rs' 'examples/*.rs')
number=0

# check NAME COMMAND...: passes if the command succeeds and prints nothing.
check() {
	name=$1
	shift
	number=$((number + 1))
	if said=$("$@" 2>&1) && [ -z "$said" ]; then
		echo "ok $number $name"
	else
		printf '%s\n' "$said" | sed 's/^/# /'
		echo "not ok $number $name"
	fi
}

formatted() { rustfmt --edition 2021 --config-path "$linux/.rustfmt.toml" --check $rust; }

# CLIPPY=1 would build the kernel crate again.
lints() {
	export CLIPPY_CONF_DIR="$linux"
	instead_of_rustc clippy-driver --emit=metadata="$BUILD/log/clippy.rmeta"
}

# The log of a build that had nothing to do says nothing: take all that is kept.
no_warning() {
	cat "$BUILD"/log/kernel-ours*.log | grep -i -A 3 -E 'warning: |objtool: |modpost: ' |
		grep -vE '^  [A-Z]' | grep -E 'user_dispatch|rust/helpers|samples/syscall|entry-common|x86/kernel/signal' || :
}

no_panic() { llvm-nm --undefined-only "$object" | grep -E 'core.*panicking|rust_begin_unwind' || :; }

# What is mailed is what is tested: applied to the pristine files it gives those
# that were built, and nothing else in the tree differs from the pristine one.
mailed() {
	repo=$BUILD/series.am
	rm -rf "$repo"
	git -c advice.detachedHead=false clone -q --branch base "$BUILD/series.git" "$repo"
	git_in "$repo" --work-tree="$BUILD/pristine" diff --stat HEAD
	git_in "$repo" am -q --empty=drop "$BUILD"/series/*.patch
	git_in "$repo" --work-tree="$linux" diff --stat HEAD
	git_in "$repo" ls-files | sed 's|^|/|' | rsync -rlnmc --delete --out-format=%n \
		--exclude-from=- --exclude=/.patched --exclude=/.pristine "$linux/" "$BUILD/pristine/"
}

# Whoever sends the series signs it off; what else is ignored, patches/cover-letter
# argues.
style() {
	set -- $(ls "$BUILD"/series/*.patch | grep -v /0000-)
	"$linux/scripts/checkpatch.pl" --strict --quiet --no-signoff --no-tree --summary-file \
		--ignore AVOID_EXTERNS,FILE_PATH_CHANGES,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT "$@"
}

echo "KTAP version 1"
check "rustfmt: Rust sources are formatted" formatted
check "clippy: no lint" lints
check "build: no warning about our code" no_warning
check "object: no reference to core::panicking" no_panic
check "rustdoc: no warning, private items included" "$TOP/scripts/rustdoc.sh"
check "checkpatch --strict: the series is clean" style
check "git am: the series gives the tree that is tested" mailed
echo "1..$number"
