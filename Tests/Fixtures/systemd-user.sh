#!/bin/bash
# A real user service manager for one command: `systemd --user`, journald and a session bus, as root, on a machine that
# need not have been booted by systemd.
#
#   systemd-user.sh [-u USER] [-c CAPABILITY] [-e NAME=VALUE]... -- COMMAND...
#
# COMMAND runs as USER (default: a user of its own, 50123) in a throw-away HOME, with XDG_RUNTIME_DIR and
# DBUS_SESSION_BUS_ADDRESS set, so that `systemctl --user`, `systemd-run --user` and `journalctl --user` work; -e adds to
# its environment, which is otherwise empty; -c gives the manager a capability that COMMAND has not, as logins of systemd 254
# and later do with wake_alarm, so that nobody may look at its descriptors. Its exit status is ours. Where such a manager can't be had, the reason is
# printed and the status is 77.
#
# Steps: a cgroup of our own; private mount, pid, cgroup, ipc and uts namespaces; in them a fresh /proc, /run, cgroup tree
# and journal directory; journald; the user manager; the command; when it ends, pid 1 of the namespace ends and the kernel
# kills whatever is left. Nothing outside changes but one cgroup directory, removed at the end.
# There is no logind (so no lingering) and there are no resource controllers.
set -eu

skip() {
  echo "no user manager for this test: $1"
  exit 77
}

. "$(dirname "$0")/own-cgroup.sh"
user=50123
capability=
environment=()
if [ "${1-}" != --inside ]; then
  while [ $# -gt 0 ]; do
    case $1 in
    -u) user=$(id -u "$2"); shift 2 ;;
    -c) capability=$2; shift 2 ;;
    -e) environment+=("$2"); shift 2 ;;
    --) shift; break ;;
    *) echo "systemd-user.sh: unknown argument '$1'" >&2; exit 2 ;;
    esac
  done
  [ "$(id -u)" = 0 ] || skip "it needs root"
  for program in unshare setpriv setsid dbus-daemon /lib/systemd/systemd /lib/systemd/systemd-journald; do
    command -v "$program" >/dev/null || skip "'$program' is not installed"
  done
  in_own_cgroup llm-cli-gateway-test --mount --pid --cgroup --ipc --uts -- \
    "$0" --inside "$user" "$capability" "${#environment[@]}" "${environment[@]}" "$@"
fi

shift
user=$1
capability=$2
environment=("${@:4:$3}")
shift $((3 + $3))

mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
mkdir -p /run/systemd/system /run/systemd/journal "/run/user/$user" /run/home /run/etc /var/log/journal

if ! getent passwd "$user" >/dev/null; then
  cp /etc/passwd /etc/group /run/etc
  echo "gateway-test:x:$user:$user::/run/home:/bin/bash" >>/run/etc/passwd
  echo "gateway-test:x:$user:" >>/run/etc/group
  mount --bind /run/etc/passwd /etc/passwd
  mount --bind /run/etc/group /etc/group
fi
name=$(getent passwd "$user" | cut -d: -f1)
primary=$(getent passwd "$user" | cut -d: -f4)
if [ ! -s /etc/machine-id ]; then
  echo 0123456789abcdef0123456789abcdef >/run/etc/machine-id
  [ ! -e /etc/machine-id ] || mount --bind /run/etc/machine-id /etc/machine-id
fi
chown "$user:$primary" "/run/user/$user" /run/home
chmod 700 "/run/user/$user"

tree=/sys/fs/cgroup
service=$tree/user.slice/user-$user.slice/user@$user.service
session=$tree/user.slice/user-$user.slice/session-1.scope
journal=$tree/system.slice/systemd-journald.service
mkdir -p $tree/init.scope "$journal" "$service/init.scope" "$session"
echo 1 >$tree/init.scope/cgroup.procs
chown -R "$user:$primary" "$service"

printf '[Journal]\nStorage=persistent\nSplitMode=uid\nReadKMsg=no\nRateLimitIntervalSec=0\n' >/run/etc/journald.conf
: >/run/systemd/journal/flushed
[ ! -f /etc/systemd/journald.conf ] || mount --bind /run/etc/journald.conf /etc/systemd/journald.conf
(
  echo 0 >"$journal/cgroup.procs"
  exec /lib/systemd/systemd-journald >/run/journald.log 2>&1
) &
appears() { # a socket, within five seconds
  for _ in {1..500}; do
    [ ! -S "$1" ] || return 0
    sleep 0.01
  done
  return 1
}
appears /run/systemd/journal/stdout || { cat /run/journald.log >&2; exit 3; }

as_user() {
  exec setpriv --reuid "$user" --regid "$primary" --clear-groups "${privileges[@]}" env -i HOME=/run/home USER="$name" LOGNAME="$name" \
    SHELL=/bin/bash PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 XDG_RUNTIME_DIR="/run/user/$user" \
    DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$user/bus" "$@"
}
privileges=()
(
  echo 0 >"$service/init.scope/cgroup.procs"
  [ -z "$capability" ] || privileges=(--inh-caps "+$capability" --ambient-caps "+$capability")
  as_user SYSTEMD_LOG_TARGET=journal /lib/systemd/systemd --user >/run/manager.log 2>&1
) &
appears "/run/user/$user/systemd/private" || { cat /run/manager.log >&2; exit 3; }

status=0
(
  echo 0 >"$session/cgroup.procs"
  cd /run/home
  # "degraded" is a state to start from, too.
  (as_user systemctl --user is-system-running --wait >/dev/null) || true
  as_user "${environment[@]}" "$@"
) || status=$?
exit $status
