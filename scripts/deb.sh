#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# deb.sh FRAGMENT...: Debian packages of the patched kernel, by the kernel's own
# bindeb-pkg, in build/deb. The fragments are our own configuration. CONFIG= asks for
# another one: "running", "debian" or a file, to which configs/needed.config is added;
# LOCAL=1 leaves away the modules that are not in use now.
. "$TOP/scripts/lib.sh"
. "$TOP/scripts/debian.sh"
lock 9 "$BUILD/.lock" "$BUILD"

out=$BUILD/kernel/deb packages=$BUILD/deb log=$BUILD/log/deb.log
source=$BUILD/linux needed=$TOP/configs/needed.config
config=${CONFIG:-}
mkdir -p "$out"

missing=
for tool in dh:debhelper dpkg-buildpackage:dpkg-dev; do
	have "${tool%:*}" || missing="$missing ${tool#*:}"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] && have apt-get || die "these packages are missing:$missing" "Install them: apt-get install$missing"
	say "installing$missing"
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y --no-install-recommends $missing >"$log" 2>&1 </dev/null ||
		die "they could not be installed: $(grep -m 1 '^E:' "$log")" "The whole log: $log"
fi

# The configuration asked for, in a file.
asked=$out/.asked
case $config in
'') cat "$@" >"$asked.new" ;;
running)
	running=/boot/config-$(uname -r)
	if [ -r "$running" ]; then
		cat "$running" >"$asked.new"
	elif [ -r /proc/config.gz ]; then
		gzip -dc /proc/config.gz >"$asked.new"
	else
		die "the configuration of the running kernel is neither in $running nor in /proc/config.gz" \
			"Name a file by CONFIG=, or use CONFIG=debian."
	fi
	;;
debian)
	version=$(make -s -C "$source" kernelversion)
	remedy="Name a file by CONFIG= instead."
	lock 8 "$CACHE/lock" "the downloads in $CACHE"
	private_apt "$log" "$remedy"
	mkdir -p "$CACHE/linux-config"
	cd "$CACHE/linux-config"
	package=linux-config-${version%.*}
	[ -e "$(echo "$package"_*.deb)" ] || fetch "$log" "$remedy" "$package"
	dpkg-deb --fsys-tarfile "$package"_*.deb | tar xO --wildcards '*/config.amd64_none_amd64.xz' |
		xz -dc >"$asked.new" || die "$package has no configuration of amd64" "$remedy"
	cd "$TOP"
	exec 8>&-
	;;
*)
	[ -r "$config" ] || die "CONFIG=$config cannot be read" "Name a kernel configuration, or 'running' or 'debian'."
	cat "$config" >"$asked.new"
	;;
esac
[ -z "$config" ] || cat "$needed" >>"$asked.new"
printf '# LOCAL=%s\n' "${LOCAL:-}" >>"$asked.new"

# Configure when something else is asked for, and not each time.
if ! cmp -s "$asked.new" "$asked" || [ ! -e "$out/.config" ]; then
	rm -f "$asked"
	# A later line overrides an earlier one.
	awk '{ symbol = $1 == "#" ? $2 : $1; sub(/=.*/, "", symbol) }
	     symbol ~ /^CONFIG_/ { line[symbol] = $0 }
	     END { for (symbol in line) print line[symbol] }' "$asked.new" | sort >"$out/.config"
	{ make -C "$source" O="$out" olddefconfig &&
		{ [ "${LOCAL:-}" != 1 ] || yes '' | make -C "$source" O="$out" localmodconfig; } &&
		"$source/scripts/config" --file "$out/.config" --set-str SYSTEM_TRUSTED_KEYS '' \
			--set-str SYSTEM_REVOCATION_KEYS '' &&
		make -C "$source" O="$out" olddefconfig; } >"$log" 2>&1 9>&- ||
		die "the kernel could not be configured: $(grep -m 1 -i error "$log")" "The whole log: $log"
	lost=$(grep -vxFf "$out/.config" "$needed" | grep '^CONFIG_' || :)
	[ -z "$lost" ] || {
		# By what CONFIG_RUST depends on.
		has() { grep -q "^CONFIG_$1=y" "$out/.config"; }
		why="See what it depends on: make -C $source O=$out menuconfig."
		! has DEBUG_INFO_BTF || why="Rust beside BTF wants a pahole >= 1.24, and no LTO: turn CONFIG_DEBUG_INFO_BTF off, or LTO."
		! has MODVERSIONS || has GENDWARFKSYMS || why="Rust with module versions wants CONFIG_GENDWARFKSYMS: choose it, or turn CONFIG_MODVERSIONS off."
		! has RANDSTRUCT || why="Rust cannot have randomised structures: turn CONFIG_RANDSTRUCT off."
		! has KASAN || why="Rust with KASAN takes clang: turn CONFIG_KASAN off."
		has 64BIT || why="Only the 64-bit kernel has the mechanism: set CONFIG_64BIT."
		die "the configuration (CONFIG=$config) cannot have:" "$lost" "$why"
	}
	mv "$asked.new" "$asked"
fi

modules=$(grep -c '=m$' "$out/.config" || :)
room "$BUILD" $((5 + modules / 150)) "this kernel with its $modules modules"
say "building packages of the kernel with $modules modules, on $(nproc) processors:" \
	"about $(((modules * 12 + 900) / 60 / $(nproc) * 2)) minutes and $((4 + modules / 200)) GiB in $BUILD the first time; it goes on where it was stopped"

# As Debian's own of that version would be named, but for what tells ours.
release=$(make -s -C "$source" O="$out" kernelrelease)
export KBUILD_BUILD_TIMESTAMP="${KBUILD_BUILD_TIMESTAMP:-$(date -u -r "$source/Makefile")}"
export KBUILD_BUILD_USER=sud KBUILD_BUILD_HOST=localhost MAKEFLAGS=
: >"$log"
progress --name deb --what "building the packages" --guess $((3800 + modules * 10)):$((modules * 4 + 780)) --of "$log" -- \
	sh -c 'log=$1; shift; exec "$@" >>"$log" 2>&1' sh "$log" \
	make -C "$source" O="$out" -j"${J:-$(($(nproc) + 1))}" KDEB_PKGVERSION="${release%-sud}-1~sud" \
	DPKG_FLAGS=-d bindeb-pkg 9>&- ||
	die "the packages could not be built:" "$(grep -m 3 -A 4 -E '^error|[^ ]: (fatal )?error: |No space|^dpkg.*error' "$log" || tail -n 5 "$log")" \
		"The whole log: $log"
rm -rf "$packages"
mkdir -p "$packages"
mv "$BUILD/kernel/"*"${release%-sud}-1~sud_"*.deb "$packages"
rm -f "$BUILD/kernel/"linux-upstream_* "$packages"/*-dbg_*.deb
say "done; to install the kernel beside those that are there:"
printf 'apt install %s\n' "$(ls -d "$packages"/linux-image-*.deb)"
