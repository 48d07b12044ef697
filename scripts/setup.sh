#!/usr/bin/env bash
# Makes a machine fit for "make test", "make demo" and "make bench": checks Go,
# and installs the programs that the tests run for real. It changes nothing
# where nothing is missing, and starts no service.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # where Debian keeps servers

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

check_go() {
  local wanted have
  wanted=$(sed -n 's/^go //p' go.mod)
  command -v go >/dev/null || fail "Go is not installed; install Go $wanted or newer: https://go.dev/doc/install"
  have=$(go env GOVERSION) || fail "Go $wanted or newer is needed: https://go.dev/doc/install"
  have=${have#go}
  have=${have%% *} # without the names of experiments
  if [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) != "$wanted" ]]; then
    fail "Go $wanted or newer is needed, this is $have: https://go.dev/doc/install"
  fi
}

has() { command -v "$1" >/dev/null; }

# Debian keeps the PostgreSQL server out of the path.
has_postgres() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

has_ca_certificates() { [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt || -e /etc/ssl/cert.pem ]]; }

missing_packages() {
  has nginx || echo nginx
  has haproxy || echo haproxy
  has_postgres || echo postgresql
  has openssl || echo openssl
  has curl || echo curl
  has_ca_certificates || echo ca-certificates
}

# Packages of servers start them at once. A policy of refusal stands while they
# are installed, unless the machine has a policy of its own.
install_packages() {
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
  if [[ -d /run/systemd/system ]]; then
    local package
    for package in "$@"; do
      case $package in
        # Nor shall the next boot start what only the tests need.
        nginx | haproxy | postgresql) systemctl disable --quiet "$package" ;;
      esac
    done
  fi
}

check_go
mapfile -t missing < <(missing_packages)
((${#missing[@]} > 0)) || exit 0

command -v apt-get >/dev/null ||
  fail "these programs are missing and there is no apt here to install them: ${missing[*]}"
((EUID == 0)) ||
  fail "these packages are missing: ${missing[*]}; install them with:
  sudo apt-get update && sudo apt-get install --yes --no-install-recommends ${missing[*]}"

printf 'setup: installing %s\n' "${missing[*]}"
install_packages "${missing[@]}"
mapfile -t missing < <(missing_packages)
((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}"
