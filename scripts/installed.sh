#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# installed.sh: whether the packages of build/deb serve on a machine, as KTAP. A small
# Debian on a disk image of its own installs them, boots them from that disk with the
# initramfs that it made, and removes them again; QEMU starts each kernel as a boot
# loader would. Nothing of this machine changes but build/installed.
. "$TOP/scripts/lib.sh"
. "$TOP/scripts/debian.sh"

work=$BUILD/installed disk=$BUILD/installed/disk.img log=$BUILD/log/installed.log
in_image=$TOP/scripts/installed
deb=$(ls "$BUILD"/deb/linux-image-*.deb 2>/dev/null) || die "there are no packages in $BUILD/deb" "make deb"
release=$(dpkg-deb -f "$deb" Package) release=${release#linux-image-}
mkdir -p "$work"
lock 6 "$work/.lock" "the image in $work"
room "$work" 5 "a disk image"

missing=
for tool in mmdebstrap genext2fs:genext2fs debugfs:e2fsprogs; do
	have "${tool%:*}" || missing="$missing ${tool#*:}"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] && have apt-get || die "these packages are missing:$missing" "Install them: apt-get install$missing"
	say "installing$missing"
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y --no-install-recommends $missing >"$log" 2>&1 </dev/null ||
		die "they could not be installed: $(grep -m 1 '^E:' "$log")" "The whole log: $log"
fi

# The suite of this machine, whose C library our programs want. Nobody logs in: a getty
# would hang up the line that we listen on.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*/debian\)/*/dists/.*|\1|p" | head -n 1)
say "making a Debian ($suite) on a disk image (about two minutes)"
rm -f "$disk"
mmdebstrap --quiet --variant=minbase --format=ext2 --architectures=amd64,i386 \
	--include=libc6:i386,systemd-sysv,udev,dbus,kmod,procps,initramfs-tools,zstd,linux-image-cloud-amd64 \
	--customize-hook="copy-in $in_image/run $deb /root" \
	--customize-hook="copy-in $in_image/sud.service /etc/systemd/system" \
	--customize-hook="mkdir -p \"\$1/root/tests\"" \
	--customize-hook="sync-in $BUILD/kselftest /root/tests" \
	--customize-hook="mkdir -p \"\$1/root/samples\"" \
	--customize-hook="sync-in $BUILD/kernel/ours/samples/syscall_user_dispatch /root/samples" \
	--customize-hook='chroot "$1" systemctl --quiet enable sud.service' \
	--customize-hook='chroot "$1" systemctl --quiet mask serial-getty@ttyS0.service' \
	"$suite" "$disk" "$mirror" >"$log" 2>&1 </dev/null ||
	die "the image could not be made: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" "The whole log: $log"
{ truncate -s 3G "$disk" && e2fsck -fp "$disk"; resize2fs "$disk" && tune2fs -j "$disk"; } >>"$log" 2>&1 ||
	die "the image could not be enlarged: $(tail -n 1 "$log")"

# boot NAME RELEASE: the kernel of that release, from the disk. What is done then is
# said by NAME. Leaves what it said in $work/NAME.
boot() {
	say "booting $2: $1"
	for file in vmlinuz initrd.img; do
		debugfs -R "dump /boot/$file-$2 $work/$file" "$disk" >>"$log" 2>&1
		[ -s "$work/$file" ] || die "there is no /boot/$file-$2 in the image" "See $work/$1 and $log."
	done
	# shellcheck disable=SC2046 # words
	timeout 1200 qemu-system-x86_64 -machine q35 -smp 2 -m 1G -display none -nodefaults -serial "file:$work/$1" \
		$(has_kvm && echo "-cpu host -accel kvm" || echo "-cpu max") -no-reboot -drive "file=$disk,if=virtio,format=raw" \
		-kernel "$work/vmlinuz" -initrd "$work/initrd.img" \
		-append "root=/dev/vda rw console=ttyS0 panic=-1 quiet sud=$1" 2>>"$log" </dev/null ||
		echo "QEMU gave up: $?" >>"$work/$1"
}

number=0
# check NAME WANTED...: whether each is in what NAME said.
check() {
	number=$((number + 1)) name=$1 ok=ok
	shift
	for wanted; do
		tr -d '\r' <"$work/$name" | grep -q "^SUD: $wanted" || {
			ok="not ok"
			echo "# no 'SUD: $wanted' in $work/$name"
		}
	done
	[ "$ok" = ok ] || grep -a 'SUD: ' "$work/$name" | tail -n 20 | sed 's/^/# /'
	echo "$ok $number $name"
}

before=$(debugfs -R 'ls -p /boot' "$disk" 2>/dev/null | sed -n 's|.*/vmlinuz-\([^/]*\)/.*|\1|p' | head -n 1)
echo "KTAP version 1"
echo "1..5"
boot install "$before"
check install "runs $before" "installed" "there is an initramfs of $release" "done"
boot first "$release"
check first "runs $release" "multi-user" "no unit failed" "the demonstration passes" \
	"the upcall passes" "the selftests pass" "the log is clean" "done"
boot again "$release"
check again "runs $release" "multi-user" "no unit failed" "done"
boot remove "$before"
check remove "runs $before" "removed" "nothing of $release is left" "done"
boot back "$before"
check back "runs $before" "multi-user" "no unit failed" "done"
