#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The static checks, as KTAP: format, lints, warnings, references, style.
. "$TOP/scripts/lib.sh"

out=$BUILD/kernel/ours
linux=$BUILD/linux
object=$out/kernel/entry/user_dispatch/user_dispatch.o
rust=$(cd "$TOP" && git ls-files -co --exclude-standard '*.rs')
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

formatted() { rustfmt --edition 2021 --color never --config-path "$linux/.rustfmt.toml" --check $rust; }

# CLIPPY=1 would build the kernel crate again.
lints() {
	export CLIPPY_CONF_DIR="$linux"
	instead_of_rustc clippy-driver --emit=metadata="$BUILD/log/clippy.rmeta"
	RUSTC_WORKSPACE_WRAPPER=$BUILD/bin/clippy-driver workspace check --all-targets
}

# The programs of the host. What cargo prints is progress, unless it fails.
workspace() {
	said=$(RUSTC=$BUILD/bin/rustc cargo "$@" --release --locked --manifest-path "$TOP/Cargo.toml" --target-dir "$BUILD/host" 2>&1) ||
		printf '%s\n' "$said"
}

# The log of a build that had nothing to do says nothing: take all that is kept. Ours
# is what the series touch, be it named as source or as object.
no_warning() {
	sed -n 's/\.\(c\|h\|rs\|S\)$/./p' "$linux/.patched" >"$BUILD/log/touched"
	cat "$BUILD"/log/kernel-ours*.log | grep -i -A 3 -E 'warning: |objtool: |modpost: ' |
		grep -vE '^  [A-Z]' | grep -F -f "$BUILD/log/touched" || :
}

no_panic() { llvm-nm --undefined-only "$object" | grep -E 'core.*panicking|rust_begin_unwind' || :; }

# What every architecture shares names none, and nothing that only one has: neither
# its headers, nor its registers, nor its ways into the kernel. The way to what is
# an architecture's own is the file of that name.
neutral() {
	registers='[re]?(ax|bx|cx|dx|si|di|bp|sp|ip)|[re]flags|r([89]|1[0-5])[dwb]?|orig_[re]?ax'
	architectures='x86(_64)?|amd64|i[36]86|ia32|x32|arm64|riscv|loongarch|s390x?|powerpc'
	ways='sysenter|int 0x80|vsyscall|swapgs|lfence|stac|clac'
	cd "$TOP"
	grep -nwiE "asm/[a-z_.]+|$registers|$architectures|$ways" \
		$(git ls-files -co --exclude-standard kernel/entry/user_dispatch) |
		grep -v 'asm/syscall_user_dispatch\.' || :
}

# What is mailed is what is tested: applied to the pristine files, the one series
# after the other, it gives those that were built, and nothing else in the tree
# differs from the pristine one.
mailed() {
	repo=$BUILD/series.am
	rm -rf "$repo"
	git -c advice.detachedHead=false clone -q --branch base "$BUILD/series.git" "$repo"
	git_in "$repo" --work-tree="$BUILD/pristine" diff --stat HEAD
	for series in $SERIES; do
		git_in "$repo" am -q --empty=drop "$BUILD/series/$series"/*.patch
		git_in "$repo" diff --stat "$series" --
	done
	git_in "$repo" --work-tree="$linux" diff --stat HEAD
	git_in "$repo" ls-files | sed 's|^|/|' | rsync -rlnmc --delete --out-format=%n \
		--exclude-from=- --exclude=/.patched --exclude=/.pristine "$linux/" "$BUILD/pristine/"
}

# style SERIES: whoever sends it signs it off, and there is no history here to look for
# commits in. What else is ignored is what the cover letter argues, each in a line that
# begins with " - " and its name.
style() {
	argued=$(sed -n '/^What checkpatch says/,$s/^ - \([A-Z_]*\).*/\1/p' "$TOP/patches/$1/cover-letter" | paste -sd,)
	set -- "$BUILD/series/$1"/*.patch
	case $1 in */0000-*) shift ;; esac
	"$linux/scripts/checkpatch.pl" --strict --quiet --no-signoff --no-tree --summary-file \
		--ignore "UNKNOWN_COMMIT_ID,$argued" "$@"
}

echo "KTAP version 1"
check "rustfmt: Rust sources are formatted" formatted
check "clippy: no lint" lints
check "cargo test: the programs of the host pass their tests" workspace test
check "build: no warning about our code" no_warning
check "object: no reference to core::panicking" no_panic
check "rustdoc: no warning, private items included" "$TOP/scripts/rustdoc.sh"
check "neutral: kernel/entry names no architecture" neutral
for series in $SERIES; do
	check "checkpatch --strict: the series '$series' is clean" style "$series"
done
check "git am: the series give the tree that is tested" mailed
echo "1..$number"
