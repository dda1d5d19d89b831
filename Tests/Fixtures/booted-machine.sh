#!/bin/bash
# A whole machine of its own, booted by systemd: pid 1, logind, polkit, user managers. As root; the host need not run systemd.
#
#   booted-machine.sh ROOT GIVEN
#
# ROOT is a root file system with systemd; what the machine writes stays in it, so that a second boot finds the files of the
# first. GIVEN is a folder that the machine sees as /given and cannot change. Prints `ready` when the boot is over, and lasts
# until the machine is powered off or loses its power: SIGTERM here. Where such a machine can't be had, the reason is printed
# and the status is 77.
#
# Steps: a cgroup of our own; private mount, pid and cgroup namespaces; in them a fresh /proc, /run and cgroup tree; the
# container, with a network of its own that leads nowhere; when it ends, the kernel kills whatever is left. Nothing outside
# changes but one cgroup directory, removed at the end.
set -eu

skip() {
  echo "no booted machine for this test: $1"
  exit 77
}

. "$(dirname "$0")/own-cgroup.sh"
if [ "${1-}" != --inside ]; then
  [ $# = 2 ] || { echo "usage: booted-machine.sh ROOT GIVEN" >&2; exit 2; }
  [ "$(id -u)" = 0 ] || skip "it needs root"
  for program in unshare nsenter systemd-nspawn; do
    command -v "$program" >/dev/null || skip "'$program' is not installed"
  done
  in_own_cgroup llm-cli-gateway-machine --mount --pid --cgroup -- "$0" --inside "$@"
fi

root=$2 given=$3
mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --machine=gateway-test --private-network --resolv-conf=off \
  --timezone=off --bind-ro="$given:/given" --console=pipe --boot </dev/null >/run/machine.log 2>&1 &
container=$!
first=
for _ in {1..1500}; do
  kill -0 $container 2>/dev/null || break
  first=$(awk '{ print $1 }' /proc/$container/task/$container/children 2>/dev/null) || first=
  [ -z "$first" ] || [ ! -S "/proc/$first/root/run/dbus/system_bus_socket" ] || break
  sleep 0.02
done
if [ -z "$first" ] || [ ! -S "/proc/$first/root/run/dbus/system_bus_socket" ]; then
  skip "it did not boot: $(tail -n 3 /run/machine.log)"
fi
# "degraded" is a state to start from, too.
nsenter --target "$first" --mount --uts --ipc --net --pid --cgroup --root --wd -- systemctl is-system-running --wait \
  >/run/state 2>&1 || true
echo "ready $(tail -n 1 /run/state)"
wait $container
