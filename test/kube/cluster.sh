#!/usr/bin/env bash
# A real Kubernetes of one node: etcd, kube-apiserver, controller-manager,
# scheduler, kubelet, kube-proxy, containerd, runc and CoreDNS. The node lives in
# its own mount, pid, network, uts, ipc and cgroup namespaces: nothing in it can
# reach the outside, it leaves the machine's own network, /run and
# /sys/fs/cgroup alone, and the end of its first process ends it all.
#
#   cluster.sh build          install packages, build binaries and images (kept in KUBE_CACHE)
#   cluster.sh up             start the cluster and wait until it is ready
#   cluster.sh exec CMD...    run CMD beside the node: its network and mounts, KUBECONFIG set
#   cluster.sh load FILE...   import archives of images into the running node
#   cluster.sh down           end the cluster and remove KUBE_STATE
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR
source "$HERE/pki.sh"

write_configs() {
  local volume
  mkdir -p "$KUBE_STATE"/{log,etc/cni,etcd,containerd,kubelet,lib-cni,varlog,plugins,manifests}
  echo 'nameserver 127.0.0.1' >"$KUBE_STATE/etc/resolv.conf"
  printf '127.0.0.1 localhost\n%s %s\n' "$NODE_IP" "$NODE" >"$KUBE_STATE/etc/hosts"
  render containerd.toml >"$KUBE_STATE/etc/containerd.toml"
  render pods.conflist >"$KUBE_STATE/etc/cni/10-pods.conflist"
  render kubelet.yaml >"$KUBE_STATE/etc/kubelet.yaml"
  render kube-proxy.yaml >"$KUBE_STATE/etc/kube-proxy.yaml"
  render addons.yaml >"$KUBE_STATE/etc/addons.yaml"
  for volume in {0..29}; do
    mkdir -p "$KUBE_STATE/pv/$volume"
    render volume.yaml | sed "s|@VOLUME@|$volume|g" >>"$KUBE_STATE/etc/addons.yaml"
  done
}

# Enters a cgroup of the cluster's own, below the caller's, in every hierarchy.
enter_cgroups() {
  local line lines controllers path mount name
  name=$(basename "$KUBE_STATE")
  mapfile -t lines </proc/self/cgroup # all at once: it changes with every step below
  for line in "${lines[@]}"; do
    IFS=: read -r _ controllers path <<<"$line"
    controllers=${controllers#name=}
    mount=/sys/fs/cgroup/${controllers:-unified}
    [[ -d $mount ]] || continue
    path=$mount${path%/}/$name
    mkdir -p "$path"
    if [[ $controllers == cpuset ]]; then
      cat "$path/../cpuset.cpus" >"$path/cpuset.cpus"
      cat "$path/../cpuset.mems" >"$path/cpuset.mems"
    fi
    echo "$path" >>"$KUBE_STATE/cgroups"
    echo "$BASHPID" >"$path/cgroup.procs"
  done
}

# The pid file names the process that holds the node only while it was born when
# the file says: the number may have gone to another process since.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

alive() {
  local pid at
  [[ -s $KUBE_STATE/pid ]] && read -r pid at <"$KUBE_STATE/pid" && [[ -n $at && $(born "$pid") == "$at" ]]
}

holder() { cut -d' ' -f1 "$KUBE_STATE/pid"; }

# The end of unshare is the node's end, as --kill-child says.
start_node() {
  (
    enter_cgroups
    exec setsid unshare --fork --pid --kill-child --mount --net --uts --ipc --cgroup --propagation private \
      "$HERE/node.sh" >"$KUBE_STATE/log/node.log" 2>&1 </dev/null
  ) &
  echo "$! $(born "$!")" >"$KUBE_STATE/pid"
  for _ in {1..100}; do
    [[ -e $KUBE_STATE/started ]] && return
    sleep 0.1
  done
  fail "the node did not start: $(tail -n 3 "$KUBE_STATE/log/node.log")"
}

# until_ok ARGS...: asks kubectl until it succeeds.
until_ok() {
  for _ in {1..240}; do
    in_node kubectl "$@" >"$KUBE_STATE/log/step.log" 2>&1 && return
    alive || fail "the node ended: $(tail -n 5 "$KUBE_STATE/log/node.log")"
    sleep 0.5
  done
  fail "not in time: kubectl $*: $(cat "$KUBE_STATE/log/step.log")"
}

in_node() {
  alive || fail "there is no cluster in $KUBE_STATE; start one with: $HERE/cluster.sh up"
  nsenter -t "$(pgrep -P "$(holder)")" -m -n -u -i -p -C --wd="$PWD" \
    env KUBECONFIG="$KUBE_STATE/pki/admin.conf" "$@"
}

up() {
  ! alive || fail "a cluster runs already in $KUBE_STATE"
  down # what one that was killed has left
  [[ -d /sys/fs/cgroup/memory ]] || fail "this machine has no cgroup v1 hierarchies in /sys/fs/cgroup, which the node is written for"
  [[ -x $BIN/kubelet ]] || fail "the binaries are not built; build them with: $HERE/cluster.sh build"
  mkdir -p "$KUBE_STATE"
  (make_pki)
  write_configs
  start_node
  until_ok get --raw /readyz
  until_ok wait --for=condition=Ready "node/$NODE" --timeout=1s
  until_ok -n kube-system rollout status deployment/coredns --timeout=1s
  say "the cluster is ready after $SECONDS s"
}

load() {
  local file
  for file; do
    in_node ctr -a /run/containerd/containerd.sock -n k8s.io images import "$file" >/dev/null
  done
}

down() {
  local cgroup
  if alive; then
    kill -KILL "$(holder)"
    for _ in {1..100}; do
      alive || break
      sleep 0.1
    done
  fi
  if [[ -s $KUBE_STATE/cgroups ]]; then
    while read -r cgroup; do
      for _ in {1..10}; do
        [[ -d $cgroup ]] || break
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.3
      done
    done <"$KUBE_STATE/cgroups"
  fi
  rm -rf --one-file-system "$KUBE_STATE"
}

case ${1:-} in
  build) exec "$HERE/build.sh" ;;
  exec) in_node "${@:2}" ;;
  load) load "${@:2}" ;;
  up | down) "$1" ;;
  *)
    sed -n '2,/^set/ {/^set/d; s/^# \{0,1\}//p}' "$HERE/cluster.sh" >&2
    exit 2
    ;;
esac
