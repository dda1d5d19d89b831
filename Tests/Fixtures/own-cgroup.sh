# Sourced by the scripts here that need a cgroup and namespaces of their own. The caller has `skip REASON`.
#
#   in_own_cgroup NAME NAMESPACE... -- COMMAND...
#
# runs COMMAND in such namespaces (options of unshare(1)) and a cgroup NAME, and ends with its exit status. When it ends, or this
# shell is ended, the kernel kills whatever is left. Nothing outside changes but one cgroup directory, removed at the end.
in_own_cgroup() {
  local name=$1 namespaces=()
  shift
  while [ "$1" != -- ]; do
    namespaces+=("$1")
    shift
  done
  shift
  local tree status=0
  tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [ -n "$tree" ] || skip "no cgroup2 file system is mounted"
  group=$tree/$name-$$
  mkdir "$group" 2>/dev/null || skip "'$tree' is not writable"
  supervised=
  cleanup() {
    set +e
    [ -n "$supervised" ] && kill -KILL "$supervised" 2>/dev/null
    # The kernel empties the groups a moment after the kill.
    for _ in {1..100}; do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
      [ -d "$group" ] || break
      sleep 0.05
    done
  }
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  unshare "${namespaces[@]}" --fork mount -t tmpfs none /mnt 2>/dev/null || skip "private namespaces are not allowed here"
  # Only the child joins the group; this supervising shell stays outside of it.
  (
    echo 0 >"$group/cgroup.procs"
    exec unshare "${namespaces[@]}" --fork --kill-child=KILL --propagation private "$@"
  ) &
  supervised=$!
  wait "$supervised" || status=$?
  exit $status
}
