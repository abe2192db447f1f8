#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Find the tools, install what is missing, and leave build/bin with what the
# kernel build is to use: rustc and its companions, bindgen, vng.
. "$TOP/scripts/lib.sh"
. "$TOP/scripts/debian.sh"

BINDGEN_MIN=0.71.1 LLVM_MIN=17.0.1 QEMU_MIN=7.2
VNG=1.42

# What an earlier run chose is no reason to choose it again.
PATH=${PATH#"$BUILD/bin:"}

# Each finder prints what it found, or fails.

# A rustc that is new enough and has the source of its library beside it.
find_rustc() {
	for rustc in ${RUSTC:-rustc /usr/bin/rustc}; do
		have "$rustc" || continue
		at_least "$("$rustc" --version | awk '{ print $2 }')" $RUSTC_MIN || continue
		[ -e "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs" ] || continue
		for tool in rustdoc rustfmt clippy-driver; do
			have "$(dirname "$(command -v "$rustc")")/$tool" || continue 2
		done
		command -v "$rustc" && return
	done
	return 1
}

find_bindgen() {
	for bindgen in ${BINDGEN:-bindgen "$CACHE/bindgen/bin/bindgen"}; do
		have "$bindgen" || continue
		at_least "$("$bindgen" --version | awk '{ print $2 }')" $BINDGEN_MIN || continue
		command -v "$bindgen" && return
	done
	return 1
}

# The directory of an LLVM whose tools carry no suffix.
find_llvm() {
	case ${LLVM:-} in
	-*) dirs=/usr/lib/llvm$LLVM/bin ;;
	*/*) dirs=$LLVM ;;
	*) dirs="$(dirname "$(command -v clang || echo /)") $(ls -dv /usr/lib/llvm-*/bin 2>/dev/null | tac)" ;;
	esac
	for dir in $dirs; do
		for tool in clang ld.lld llvm-ar llvm-nm llvm-strip llvm-objdump; do
			[ -x "$dir/$tool" ] || continue 2
		done
		ls "$dir"/../lib/libclang*.so* >/dev/null 2>&1 || continue
		at_least "$("$dir/clang" -dumpversion)" $LLVM_MIN && echo "$dir" && return
	done
	return 1
}

find_qemu() {
	have qemu-system-x86_64 &&
		at_least "$(qemu-system-x86_64 --version | sed -n 's/.* version \([0-9.]*\).*/\1/p')" $QEMU_MIN
}

# Whether apt offers a package at a version that is new enough.
apt_has() {
	at_least "$(apt-cache policy "$1" | awk '/Candidate:/ { sub(/^[0-9]*:/, "", $2); print $2 }')" "$2"
}

# What has to be installed, as packages of Debian.
missing() {
	if ! find_rustc >/dev/null; then
		if apt_has rustc $RUSTC_MIN; then
			echo rustc rust-src rust-clippy rustfmt
		else
			echo rustc-web rust-web-src rust-web-clippy rustfmt-web
		fi
	fi
	find_bindgen >/dev/null || ! apt_has bindgen $BINDGEN_MIN || echo bindgen
	have cargo || if apt_has rustc $RUSTC_MIN; then echo cargo; else echo cargo-web; fi
	find_llvm >/dev/null || echo clang-19 lld-19 llvm-19 libclang-19-dev
	find_qemu || echo qemu-system-x86
	echo 'int main(void) { return 0; }' | gcc -m32 -x c -o /dev/null - 2>/dev/null ||
		echo gcc gcc-multilib
	python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
	# virtme-ng leaves it to udev, in the guest, to name the ports it speaks through.
	have /lib/systemd/systemd-udevd || echo udev
	[ -e /usr/include/libelf.h ] || echo libelf-dev
	[ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
	# What upstream's selftests of seccomp are linked with.
	[ -e /usr/include/sys/capability.h ] || echo libcap-dev
	for tool in bc bison column:bsdextrautils cpio file find:findutils flex flock:util-linux gdb git kmod \
		make patch pahole perf:linux-perf perl rsync sqlite3 strace stress-ng tar trace-cmd xz:xz-utils z3; do
		have "${tool%:*}" || echo "${tool#*:}"
	done
}

install_packages() {
	have apt-get || die "these programs are missing: $*" \
		"Install them (the names are those of Debian's packages), then try again."
	if [ "$(id -u)" != 0 ]; then
		die "packages are missing; install them as root, then try again:" \
			"sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
	fi
	say "installing packages (about a minute): $*"
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
		>>"$BUILD/log/setup.log" 2>&1 </dev/null ||
		die "the packages could not be installed: $*" \
			"$(grep -m 1 '^E:' "$BUILD/log/setup.log" || tail -n 1 "$BUILD/log/setup.log")" \
			"Mend what apt-get says (whole log: $BUILD/log/setup.log), and try again."
}

# What is asked for by name is not replaced by something else.
asked() {
	eval "value=\${$1:-}"
	[ -z "$value" ] || $2 >/dev/null 2>&1 || die "$1=$value does not serve: $3" "Name another, or leave $1= away."
}

mkdir -p "$BUILD/log" "$BUILD/bin"
asked RUSTC find_rustc "it has to be >= $RUSTC_MIN, with its library source (rust-src), rustfmt and clippy"
asked BINDGEN find_bindgen "it has to be bindgen >= $BINDGEN_MIN"
asked LLVM find_llvm "it has to be clang, lld and llvm >= $LLVM_MIN with libclang"
packages=$(missing 2>/dev/null | tr '\n' ' ')
if [ -n "$packages" ]; then
	# What apt offers is known only after an update; ask again then.
	if have apt-get && [ "$(id -u)" = 0 ]; then
		say "updating the package lists"
		apt-get update >"$BUILD/log/setup.log" 2>&1 </dev/null ||
			die "apt-get update failed: $(grep -m 1 '^E:' "$BUILD/log/setup.log")" \
				"Is there a network? (whole log: $BUILD/log/setup.log)"
		packages=$(missing 2>/dev/null | tr '\n' ' ')
	fi
	# shellcheck disable=SC2086 # a list of words
	install_packages $packages
fi

rustc=$(find_rustc) ||
	die "no rustc >= $RUSTC_MIN with its library source, rustfmt and clippy" \
		"Install rust-src for your toolchain (rustup component add rust-src), or name another by RUSTC=."
llvm=$(find_llvm) || die "no clang, lld and llvm >= $LLVM_MIN with libclang" "Name a directory by LLVM=/path/to/bin/."
find_qemu || die "no qemu-system-x86_64 >= $QEMU_MIN" "Install QEMU and put it into PATH."

# Where apt has none that is new enough, a later Debian's serves, which brings the
# libc that it wants.
if ! bindgen=$(find_bindgen); then
	lock 8 "$CACHE/lock" "the tools in $CACHE"
	say "fetching bindgen"
	log=$BUILD/log/bindgen.log remedy="Or name one by BINDGEN= (cargo install bindgen-cli)."
	private_apt "$log" "$remedy"
	rm -rf "$CACHE/bindgen"
	mkdir -p "$CACHE/bindgen/bin"
	cd "$CACHE/bindgen"
	fetch "$log" "$remedy" bindgen libc6
	for deb in *.deb; do dpkg-deb -x "$deb" .; done
	libc=$CACHE/bindgen/usr/lib/x86_64-linux-gnu
	cat >bin/bindgen <<-SCRIPT
		#!/bin/sh
		exec $libc/ld-linux-x86-64.so.2 --library-path $libc $CACHE/bindgen/usr/bin/bindgen "\$@"
	SCRIPT
	chmod +x bin/bindgen
	cd "$TOP"
	exec 8>&-
	bindgen=$(find_bindgen) || die "Debian's bindgen does not run here" "$remedy"
fi

vng=$CACHE/virtme-ng-$VNG
venv "$vng" "virtme-ng==$VNG"

# One directory to put in front of PATH. The links are renewed only where they
# change: Kbuild builds everything again for a compiler that looks new.
link() { [ "$(readlink "$BUILD/bin/$2")" = "$1" ] || ln -sfn "$1" "$BUILD/bin/$2"; }
for tool in rustc rustdoc rustfmt clippy-driver; do link "$(dirname "$rustc")/$tool" $tool; done
for tool in "$llvm"/*; do link "$tool" "${tool##*/}"; done
link "$bindgen" bindgen
for tool in vng virtme-run; do link "$vng/bin/$tool" $tool; done
# llvm-objcopy cannot convert the vDSO to x32.
link "$(command -v objcopy)" llvm-objcopy
