#!/usr/bin/env bash
# Makes what the test cluster is made of, into KUBE_CACHE: Debian's packages for
# what needs the kernel, the rest built from source through the Go module proxy.
# No container registry is asked. What is there already is left as it is: about
# six minutes the first time, none after that.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR
source "$HERE/image.sh"

packages=(
  containerd runc containernetworking-plugins iptables nftables conntrack iproute2
  buildah debootstrap openssl util-linux procps python3 ca-certificates
)

install_packages() {
  local package missing=()
  for package in "${packages[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  say "installing ${missing[*]}"
  # Packages of servers start them at once, unless a policy refuses.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    fail "apt-get could not install ${missing[*]}"
}

# fresh NAME VERSION: whether NAME is built in this version already.
fresh() { [[ $(cat "$BIN/.$1" 2>/dev/null) == "$2" ]]; }

built() { echo "$2" >"$BIN/.$1"; }

# module NAME [REQUIREMENT]: an empty module for NAME's build, with the files of
# programs/NAME; the current directory is there afterwards.
module() {
  local directory=$KUBE_CACHE/src/$1
  mkdir -p "$directory"
  cd "$directory"
  rm -f go.mod go.sum
  if [[ -d $HERE/programs/$1 ]]; then cp "$HERE/programs/$1/main.go" .; fi
  printf 'module certctl.test/%s\n\ngo 1.25.0\n' "$1" >go.mod
  if (($# > 1)); then printf '\nrequire %s\n' "$2" >>go.mod; fi
}

tidy() { go mod tidy 2>tidy.log || fail "go mod tidy in $PWD: $(tail -n 5 tidy.log)"; }

compile() { nice go build -p 2 -trimpath "$@"; }

# tools PACKAGE...: a file that imports them, so that tidy keeps their modules.
tools() {
  printf '//go:build tools\n\npackage tools\n\nimport (\n' >tools.go
  printf '\t_ "%s"\n' "$@" >>tools.go
  printf ')\n' >>tools.go
}

build_kubernetes() {
  fresh kube "$KUBE_VERSION" && return
  say "building kubernetes $KUBE_VERSION"
  local programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)
  local source staging minor package flags="-s -w"
  module kube "k8s.io/kubernetes v$KUBE_VERSION"
  printf '\ngodebug default=go1.25\n\n' >>go.mod
  source=$(go mod download -json "k8s.io/kubernetes@v$KUBE_VERSION" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  # Its own go.mod takes the staging modules from folders; here they are their own releases.
  awk '/^replace \(/ {on=1; next} /^\)/ {on=0} on {print $1}' "$source/go.mod" | while read -r staging; do
    printf 'replace %s => %s v0.%s\n' "$staging" "$staging" "${KUBE_VERSION#1.}"
  done >>go.mod
  tools "${programs[@]/#/k8s.io/kubernetes/cmd/}"
  tidy
  minor=$(cut -d. -f2 <<<"$KUBE_VERSION")
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=v$KUBE_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=archive"
  done
  compile -ldflags "$flags" -o "$BIN/" "${programs[@]/#/k8s.io/kubernetes/cmd/}"
  built kube "$KUBE_VERSION"
}

build_etcd() {
  fresh etcd "$ETCD_VERSION" && return
  say "building etcd $ETCD_VERSION"
  module etcd "go.etcd.io/etcd/server/v3 v$ETCD_VERSION"
  tools go.etcd.io/etcd/server/v3
  tidy
  compile -ldflags "-s -w" -o "$BIN/etcd" go.etcd.io/etcd/server/v3
  built etcd "$ETCD_VERSION"
}

build_helm() {
  fresh helm "$HELM_VERSION" && return
  say "building helm $HELM_VERSION"
  GOBIN=$BIN nice go install -p 2 -trimpath \
    -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION" "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION"
  built helm "$HELM_VERSION"
}

build_cert_manager() {
  fresh cert-manager "$CERT_MANAGER_VERSION" && return
  say "building cert-manager $CERT_MANAGER_VERSION"
  module cert-manager "github.com/cert-manager/cert-manager v$CERT_MANAGER_VERSION"
  tidy
  compile -ldflags "-s -w" -o "$BIN/cert-manager" .
  rm -rf "$KUBE_CACHE/cert-manager-crds"
  cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)/deploy/crds" "$KUBE_CACHE/cert-manager-crds"
  built cert-manager "$CERT_MANAGER_VERSION"
}

# CoreDNS with the few plugins that a cluster needs: the stock build links every cloud's SDK.
build_coredns() {
  fresh coredns "$COREDNS_VERSION" && return
  say "building coredns $COREDNS_VERSION"
  module coredns "github.com/coredns/coredns v$COREDNS_VERSION"
  tidy
  compile -ldflags "-s -w" -o coredns .
  printf 'FROM scratch\nCOPY coredns /coredns\nENTRYPOINT ["/coredns"]\n' >Containerfile
  image localhost/coredns:test "$IMAGES/coredns.tar" .
  built coredns "$COREDNS_VERSION"
}

build_pause() {
  [[ -s $IMAGES/pause.tar ]] && fresh pause 1 && return
  module pause
  compile -ldflags "-s -w" -o pause .
  printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >Containerfile
  image localhost/pause:test "$IMAGES/pause.tar" .
  built pause 1
}

build_base() {
  has_image "localhost/debian:$DEBIAN_SUITE" && return
  say "making an image of Debian $DEBIAN_SUITE"
  local directory=$KUBE_CACHE/src/debian mirror
  # shellcheck disable=SC2016 # apt's own fields
  mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk -v suite="$DEBIAN_SUITE" '$1 == suite {print $2; exit}')
  rm -rf --one-file-system "$directory"
  mkdir -p "$directory"
  debootstrap --variant=minbase --include=ca-certificates "$DEBIAN_SUITE" "$directory/root" ${mirror:+"$mirror"} >"$directory/log" 2>&1 ||
    fail "debootstrap: $(tail -n 3 "$directory/log")"
  rm -rf "$directory"/root/var/cache/apt/archives/*.deb "$directory"/root/var/lib/apt/lists/*
  printf 'FROM scratch\nCOPY root/ /\nCMD ["bash"]\n' >"$directory/Containerfile"
  image_in_store "localhost/debian:$DEBIAN_SUITE" "$directory"
  rm -rf --one-file-system "$directory"
}

# Stands in for the official image: Debian's PostgreSQL behind the part of its entrypoint that charts rely on.
build_postgres() {
  local wanted
  wanted=$DEBIAN_SUITE-$(cat "$HERE"/images/postgres/* | sha256sum | cut -c 1-16)
  [[ -s $IMAGES/postgres.tar ]] && fresh postgres "$wanted" && return
  build_base
  say "making the image of PostgreSQL"
  image localhost/postgres:test "$IMAGES/postgres.tar" "$HERE/images/postgres" --build-arg "BASE=localhost/debian:$DEBIAN_SUITE"
  built postgres "$wanted"
}

command -v go >/dev/null || fail "Go is not installed: https://go.dev/doc/install"
((EUID == 0)) || fail "a cluster needs root: namespaces, cgroups, containers"
command -v apt-get >/dev/null || fail "the test cluster is made of Debian's packages, and there is no apt here"

export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=mod" GOWORK=off
mkdir -p "$BIN" "$IMAGES" "$KUBE_CACHE/src"
exec 9>"$KUBE_CACHE/lock"
flock 9 # one build at a time in one cache
install_packages
for part in pause etcd helm coredns kubernetes cert_manager postgres; do
  (build_"$part")
done
