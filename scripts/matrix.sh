#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Build what the series touch in many configurations, and say of each as KTAP
# whether it builds without a warning. Only the objects concerned are built, and
# what they need: each kind of build has one directory, where Kbuild builds again
# what a configuration changes. What is proven is noted by content: to run it again
# resumes. MATRIX= is a pattern for the names of those to try.
. "$TOP/scripts/lib.sh"

work=$BUILD/matrix
linux=$work/linux

# What is turned, for itself, from what the project builds, and with it what depends
# on it or selects it. An option with a minus is off.
turned='
	as-is
	uprobes-off      -UPROBE_EVENTS -UPROBES
	ia32-off         -IA32_EMULATION
	x32-off          -X86_X32_ABI
	compat-off       -IA32_EMULATION -X86_X32_ABI -COMPAT
	audit-off        -AUDIT -AUDITSYSCALL
	tracepoints-off  -FTRACE -UPROBE_EVENTS -TRACEPOINTS
	sysctl-off       -PROC_SYSCTL -SYSCTL
	kunit-off        -KUNIT
	fred-off         -X86_FRED
	shadow-stack     X86_USER_SHADOW_STACK
	smp-off          -SMP
	schedstats       SCHEDSTATS'

# What is not turned stays as it is, which is said of the configuration itself.
as_is="UPROBES IA32_EMULATION X86_X32_ABI AUDITSYSCALL TRACEPOINTS SYSCTL KUNIT X86_FRED \
-X86_USER_SHADOW_STACK SMP -SCHEDSTATS"

# NAME KIND OPTION...: all configurations, those of a kind in a row.
configurations() {
	for kind in x86-gcc x86-clang; do
		echo "$turned" | while read -r name options; do
			case $name in
			'') continue ;;
			as-is) options=$as_is ;;
			esac
			echo "$kind-$name-rust $kind $options RUST SYSCALL_USER_DISPATCH_RUST"
			echo "$kind-$name-c $kind $options RUST -SYSCALL_USER_DISPATCH_RUST"
		done
		echo "$kind-dispatch-off $kind -SYSCALL_USER_DISPATCH"
		echo "$kind-rust-off $kind -RUST SYSCALL_USER_DISPATCH"
		echo "$kind-rust-off-dispatch-off $kind -RUST -SYSCALL_USER_DISPATCH"
	done
	for kind in i386-gcc i386-clang; do
		echo "$kind $kind X86_32 SYSCALL_USER_DISPATCH UPROBES"
		echo "$kind-uprobes-off $kind SYSCALL_USER_DISPATCH -UPROBE_EVENTS -UPROBES"
		echo "$kind-dispatch-off $kind -SYSCALL_USER_DISPATCH"
	done
	echo "riscv-clang riscv-clang GENERIC_ENTRY -SYSCALL_USER_DISPATCH"
}

# has OPTION: whether the configuration has it, or has it not, with a minus.
has() {
	case $1 in
	-*) ! grep -q "^CONFIG_${1#-}=" "$out/.config" ;;
	*) grep -q "^CONFIG_$1=" "$out/.config" ;;
	esac
}

# The objects concerned that the configuration has. Where it has Rust, its helpers,
# bindings and crates are built before any.
objects() {
	echo kernel/entry/ kernel/signal.o kernel/sys.o kernel/ptrace.o
	case $kind in
	riscv-*)
		echo arch/riscv/kernel/signal.o
		return
		;;
	esac
	echo arch/x86/entry/ arch/x86/kernel/signal.o arch/x86/kernel/ptrace.o
	! has X86_64 || echo arch/x86/kernel/signal_64.o
	! { has X86_32 || has IA32_EMULATION; } || echo arch/x86/kernel/signal_32.o
	! has UPROBES || echo arch/x86/kernel/uprobes.o
}

# configure OPTION...: and see that it came out as requested.
configure() {
	for option; do
		case $option in
		-*) echo "# CONFIG_${option#-} is not set" ;;
		*) echo "CONFIG_$option=y" ;;
		esac
	done >"$work/turned.config"
	mkdir -p "$out"
	# shellcheck disable=SC2086 # a list of files
	(cd "$linux" && sh scripts/kconfig/merge_config.sh -Q -O "$out" $base "$work/turned.config") || return
	for option; do
		has "$option" || { echo "error: $option cannot be had"; return 1; }
	done
}

# built OPTION...: whether everything can be built; a warning is an error, or the
# object would be there the next time. MAKEFLAGS is for whatever runs make below us.
# GNU's objcopy, which build/bin has for x32, knows no other architecture.
built() (
	MAKEFLAGS='' ARCH=${kind%-*}
	case $kind in
	x86-*) base="$TOP/configs/base.config $TOP/configs/ours.config" strict="WERROR OBJTOOL_WERROR" ;;
	i386-*) base=arch/x86/configs/i386_defconfig strict=WERROR ;;
	riscv-*) base=arch/riscv/configs/defconfig strict=WERROR ;;
	esac
	case $kind in
	riscv-clang) MAKEFLAGS="LLVM=1 OBJCOPY=$(dirname "$(readlink -f "$BUILD/bin/clang")")/llvm-objcopy" ;;
	*-clang) MAKEFLAGS=LLVM=1 ;;
	esac
	unset LLVM
	export MAKEFLAGS ARCH
	# shellcheck disable=SC2046,SC2086 # lists of words
	configure $strict "$@" && make -C "$linux" O="$out" -j"${J:-$(($(nproc) + 1))}" $(objects)
) >"$log" 2>&1 </dev/null 7>&-

lock 7 "$work/.lock" "the matrix in $work"
room "$work" 6 "the objects of a kernel in several configurations"
mkdir -p "$work/proven"
lock 9 "$BUILD/.lock" "$BUILD"
"$TOP/scripts/overlay.sh" "$BUILD/series.git" "$linux"
content=$(git_in "$BUILD/series.git" ls-tree -r rust -- arch include kernel rust && readlink "$BUILD/pristine" &&
	cat "$TOP/configs/base.config" "$TOP/configs/ours.config" "$0" &&
	for compiler in gcc clang rustc bindgen; do $compiler --version; done)
exec 9>&-

configurations | while read -r name kind options; do
	# shellcheck disable=SC2254 # a pattern
	case $name in ${MATRIX:-*}) echo "$name $kind $options" ;; esac
done >"$work/list"
count=$(wc -l <"$work/list")
[ "$count" != 0 ] || die "no configuration is called $MATRIX" "There are: $(configurations | sed 's/ .*//' | paste -sd' ')"

echo "KTAP version 1"
echo "1..$count"
number=0
while read -r name kind options; do
	number=$((number + 1)) out=$work/$kind log=$BUILD/log/matrix-$name.log
	proven=$work/proven/$(echo "$content $name $kind $options" | sha1sum | cut -c 1-16)
	if [ ! -e "$proven" ]; then
		say "$number of $count: $name"
		# shellcheck disable=SC2086 # a list of words
		if built $options; then
			echo "$name" >"$proven"
		else
			{ grep -E -m 5 -A 3 'rror: |warning: ' "$log" || tail -n 5 "$log"; } | sed 's/^/# /'
		fi
	fi
	if [ -e "$proven" ]; then echo "ok $number $name"; else echo "not ok $number $name # $log"; fi
done <"$work/list"
