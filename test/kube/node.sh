#!/usr/bin/env bash
# The first process of the node, in the namespaces that cluster.sh made for it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
s=$KUBE_STATE
admin=$s/pki/admin.conf

mount_cgroups() {
  local controller
  mount -t tmpfs tmpfs /sys/fs/cgroup
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}

# The kubelet sets these for the whole machine: it gets files with its values instead.
pin_sysctls() {
  local setting file
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$s/etc/sysctl.$(tr / . <<<"${setting%=*}")
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
}

make_mounts() {
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount_cgroups
  mount -t tmpfs tmpfs /run
  mkdir -p /run/lock /var/lib/cni /var/lib/kubelet
  pin_sysctls
  mount --bind "$s/lib-cni" /var/lib/cni
  mount --bind "$s/kubelet" /var/lib/kubelet
  mount --bind "$s/varlog" /var/log
  mount --make-rshared /
  mount --bind "$s/etc/hosts" /etc/hosts
  mount --bind "$s/etc/resolv.conf" /etc/resolv.conf
}

make_network() {
  ip link set lo up
  ip link add "$NODE" type bridge
  ip addr add "$NODE_IP/24" dev "$NODE"
  ip link set "$NODE" up
  ip route add default dev "$NODE"
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

# start NAME CMD...: kept running, its output in log/NAME.log.
start() {
  local name=$1
  shift
  while :; do
    "$@" >>"$s/log/$name.log" 2>&1 </dev/null || echo "kube: $name ended with $?" >>"$s/log/$name.log"
    sleep 1
  done &
}

start_apiserver() {
  start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$NODE_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" --client-ca-file="$s/pki/ca.crt" \
    --tls-cert-file="$s/pki/apiserver.crt" --tls-private-key-file="$s/pki/apiserver.key" \
    --kubelet-client-certificate="$s/pki/apiserver-kubelet.crt" --kubelet-client-key="$s/pki/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$s/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$s/pki/sa.pub" --service-account-signing-key-file="$s/pki/sa.key" \
    --authorization-mode=Node,RBAC --allow-privileged=true --enable-admission-plugins=NodeRestriction \
    --requestheader-client-ca-file="$s/pki/ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$s/pki/front-proxy.crt" --proxy-client-key-file="$s/pki/front-proxy.key" --profiling=false
}

start_controllers() {
  start kube-controller-manager kube-controller-manager --kubeconfig="$s/pki/controller-manager.conf" \
    --authentication-kubeconfig="$s/pki/controller-manager.conf" --authorization-kubeconfig="$s/pki/controller-manager.conf" \
    --service-account-private-key-file="$s/pki/sa.key" --root-ca-file="$s/pki/ca.crt" --use-service-account-credentials=true \
    --cluster-signing-cert-file="$s/pki/ca.crt" --cluster-signing-key-file="$s/pki/ca.key" \
    --leader-elect=false --bind-address=127.0.0.1
  start kube-scheduler kube-scheduler --kubeconfig="$s/pki/scheduler.conf" \
    --authentication-kubeconfig="$s/pki/scheduler.conf" --authorization-kubeconfig="$s/pki/scheduler.conf" \
    --leader-elect=false --bind-address=127.0.0.1
}

import_images() {
  local archive
  for archive in "$IMAGES"/*.tar; do
    until ctr -a /run/containerd/containerd.sock -n k8s.io images import "$archive" >>"$s/log/images.log" 2>&1; do sleep 0.5; done
  done
}

hostname "$NODE"
make_mounts
make_network
touch "$s/started"

start etcd etcd --data-dir "$s/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
start containerd containerd --config "$s/etc/containerd.toml"
start_apiserver
until kubectl --kubeconfig "$admin" get --raw /readyz >/dev/null 2>&1; do sleep 0.3; done
start_controllers
import_images
start kubelet kubelet --config="$s/etc/kubelet.yaml" --kubeconfig="$s/pki/kubelet.conf" --hostname-override="$NODE" --node-ip="$NODE_IP"
start kube-proxy kube-proxy --config="$s/etc/kube-proxy.yaml"
start netpol env KUBECONFIG="$admin" python3 "$HERE/netpol.py"
until kubectl --kubeconfig "$admin" apply -f "$s/etc/addons.yaml" >>"$s/log/addons.log" 2>&1; do sleep 0.5; done

# What others leave behind is the first process's to reap.
while :; do
  wait -n || true
  sleep 1
done
