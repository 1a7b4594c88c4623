#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make.sh FOLDER PACKAGE...: Debian 13 with its own kernel, systemd, AppArmor, libvirtd and the
# packages, as a machine that QEMU can start: FOLDER/disk, vmlinuz, initrd.img, and the key with which
# the user `alice`, who may use sudo, logs in. Nothing is done where it is complete.
set -eu
cd "$(dirname "$0")/../.."
folder=$1
root=$folder/root
shift
mkdir -p "$folder"
exec 8>"$folder/lock"
flock 8
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$*" ]; then exit; fi
rm -f "$folder/complete"

tests/roots/make.sh trixie "$root" initramfs-tools make
cat >"$root/etc/initramfs-tools/conf.d/small" <<'EOF'
MODULES=list
EOF
printf '%s\n' virtio_pci virtio_blk ext4 >"$root/etc/initramfs-tools/modules"
# nothing that is installed here is started here
printf '%s\n' '#!/bin/sh' 'exit 101' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# shellcheck disable=SC2016
# what a newcomer has who was told to install libvirt
tests/roots/enter.sh "$root" env DEBIAN_FRONTEND=noninteractive sh -euc 'apt-get -q update
	apt-get -q -y -o Acquire::Retries=5 install --no-install-recommends "$@"' sh \
	apparmor dbus linux-image-amd64 openssh-server sudo systemd-resolved systemd-sysv udev \
	libvirt-clients libvirt-daemon-driver-qemu libvirt-daemon-system qemu-system-x86 "$@" \
	>"$folder/log" 2>&1 8>&-

# a hundred profiles of programs that it does not have: to compile them at boot takes a quarter of an
# hour where the processor is emulated
find "$root/etc/apparmor.d" -maxdepth 1 -type f ! -name '*libvirt*' -delete

rm -f "$folder/key" "$folder/key.pub"
ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
# shellcheck disable=SC2016 # the inner shell's
tests/roots/enter.sh "$root" sh -euc 'useradd -m -s /bin/sh -G sudo alice
	mkdir -m 700 ~alice/.ssh
	echo "$1" >~alice/.ssh/authorized_keys
	chown -R alice:alice ~alice
	echo "alice ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/alice
	echo machine >/etc/hostname
	echo "127.0.0.1 localhost machine" >/etc/hosts
	echo "/dev/vda / ext4 defaults 0 1" >/etc/fstab
	printf "%s\n" "[Match]" "Type=ether" "[Network]" "DHCP=yes" >/etc/systemd/network/all.network
	systemctl enable systemd-networkd ssh >/dev/null 2>&1
	rm /usr/sbin/policy-rc.d
	apt-get clean' sh "$(cat "$folder/key.pub")"
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd.img"
rm -f "$folder/disk"
mkfs.ext4 -q -d "$root" "$folder/disk" 4G
rm -rf "$root" "$root.lock" "$root.log"
echo "$*" >"$folder/complete"
