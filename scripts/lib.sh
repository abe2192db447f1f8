# SPDX-License-Identifier: GPL-2.0
# Shared by the scripts beside it: how they speak, fail and keep out of each
# other's way. The top Makefile sets TOP and BUILD.
set -eu

# The series of patches/, in the order in which they apply.
SERIES="fixes rust upcall"
# The oldest compiler that they are for.
RUSTC_MIN=1.85.0
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/syscall-user-dispatch

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$1" >&2; shift; [ $# -eq 0 ] || printf '       %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# at_least VERSION MINIMUM
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# lock FD FILE WHAT: one at a time; the lock ends with the processes that have FD.
lock() {
	mkdir -p "${2%/*}"
	eval "exec $1>>\"\$2\""
	flock -n "$1" || die "another run is busy with $3" \
		"Wait until it has ended, or stop it, and try again."
}

# A /dev/kvm alone proves nothing.
has_kvm() { { grep -qwE 'vmx|svm' /proc/cpuinfo && : </dev/kvm; } 2>/dev/null; }

# room DIRECTORY GIBIBYTES WHAT
room() {
	mkdir -p "$1"
	[ "$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }')" -ge "$2" ] ||
		die "less than $2 GiB free in $1, which $3 needs" \
			"Make room there, or set O= (build) or XDG_CACHE_HOME (downloads) to a larger disk."
}

# git_in REPOSITORY COMMAND...: neither the user's settings nor a repository
# around us play a part.
git_in() {
	repository=$1
	shift
	command git -c core.hooksPath=/dev/null -c core.autocrlf=false -c commit.gpgSign=false \
		-c user.name="${GIT_AUTHOR_NAME:-$(command git config user.name || echo nobody)}" \
		-c user.email="${GIT_AUTHOR_EMAIL:-$(command git config user.email || echo nobody@localhost)}" \
		-C "$repository" "$@"
}

# venv DIRECTORY PACKAGE...: Python packages in an environment of their own, once.
venv() {
	[ -e "$1/.complete" ] && return
	lock 8 "$CACHE/lock" "the tools in $CACHE"
	directory=$1 said=$BUILD/log/${1##*/}.log
	shift
	say "installing $*"
	rm -rf "$directory"
	{ python3 -m venv "$directory" && "$directory/bin/pip" install --quiet "$@"; } >"$said" 2>&1 ||
		die "$1 could not be installed: $(tail -n 1 "$said")" "Is there a network? (whole log: $said)"
	touch "$directory/.complete"
	exec 8>&-
}

# instead_of_rustc TOOL ARGUMENT...: run TOOL on our crate as Kbuild ran rustc on
# it, with other output: what the ARGUMENTs say.
instead_of_rustc() {
	cd "$BUILD/kernel/ours"
	tool=$1
	shift
	command=$(sed -n '/^savedcmd_/{
		s/^[^=]*= //; s/;.*//
		s/ rustc / $tool /; s/ --emit=[^ ]*//g; s/ --out-dir [^ ]*//; s/ --remap-path-scope=[^ ]*//
		p
	}' kernel/entry/user_dispatch/.user_dispatch.o.cmd)
	eval "RUSTC_BOOTSTRAP=1 SRCARCH=x86 $command"' "$@"'
}
