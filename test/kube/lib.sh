# shellcheck shell=bash
# shellcheck disable=SC2034 # others use them
# What the scripts of the test cluster share: versions, places and words.
# Sourced, never run. Every version that is not Debian's own is pinned here.

KUBE_VERSION=${KUBE_VERSION:-1.35.4}
ETCD_VERSION=${ETCD_VERSION:-3.6.16}
HELM_VERSION=${HELM_VERSION:-3.22.0}
COREDNS_VERSION=${COREDNS_VERSION:-1.14.3}
CERT_MANAGER_VERSION=${CERT_MANAGER_VERSION:-1.21.2}
DEBIAN_SUITE=${DEBIAN_SUITE:-bookworm}

# Binaries and images, kept from run to run.
KUBE_CACHE=${KUBE_CACHE:-$HOME/.cache/certctl-kube}
# Everything of one cluster; its removal leaves nothing behind.
KUBE_STATE=${KUBE_STATE:-${TMPDIR:-/tmp}/certctl-kube}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=$KUBE_CACHE/bin
IMAGES=$KUBE_CACHE/images

NODE=node0
NODE_IP=10.88.0.1
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_IP=10.96.0.1
DNS_IP=10.96.0.10

say() { printf 'kube: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# render FILE: a file of config/ with its @NAMES@ filled in.
render() {
  sed -e "s|@STATE@|$KUBE_STATE|g" -e "s|@NODE@|$NODE|g" -e "s|@NODE_IP@|$NODE_IP|g" \
    -e "s|@POD_CIDR@|$POD_CIDR|g" -e "s|@DNS_IP@|$DNS_IP|g" "$HERE/config/$1"
}

# Debian keeps network tools and servers where an ordinary PATH does not look.
export PATH="$BIN:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
