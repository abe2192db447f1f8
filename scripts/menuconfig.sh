#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The options of the project, from its Kconfig, in the menu of the kernel tree. They
# begin as configs/ours.config has them; what is saved is build/menu.config.
. "$TOP/scripts/lib.sh"

log=$BUILD/log/menuconfig.log
make -C "$BUILD/linux" O="$BUILD/menu" build_menuconfig >"$log" 2>&1 || {
	! grep -q ncurses "$log" || die "libncurses-dev is missing, which draws the menu" \
		"Install it: apt-get install libncurses-dev"
	die "the menu could not be built: $(grep -m 1 'rror' "$log")" "The whole log: $log"
}

# It leaves more than that where it is run.
cd "$BUILD/menu"
export srctree="$TOP" KCONFIG_CONFIG="$BUILD/menu.config" KCONFIG_DEFCONFIG_LIST="$TOP/configs/ours.config"
scripts/kconfig/mconf Kconfig
[ ! -e "$BUILD/menu.config" ] ||
	say "'make run' builds the kernel of $BUILD/menu.config now; without that file, that of configs/ours.config"
