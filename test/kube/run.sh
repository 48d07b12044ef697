#!/usr/bin/env bash
# Runs the tests of the Helm chart on a real Kubernetes: builds what is missing,
# starts a cluster, loads the images of this checkout, runs the tests beside the
# node, and leaves nothing running or lying about, also when it is interrupted.
# ARGS are flags of the test binary, such as -test.run TestInstall.
#
# With KUBE_STATE naming a cluster that runs already (cluster.sh up), the tests
# run there and it is left running.
set -euo pipefail
set -m # every job has a process group, which an interrupt can end as a whole
given=${KUBE_STATE:-}
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"
cluster=$HERE/cluster.sh
repository=$(cd "$HERE/../.." && pwd)

if [[ -z $given ]]; then KUBE_STATE=$(mktemp -d -t certctl-kube.XXXXXX); fi
export KUBE_STATE KUBE_CACHE
work=$(mktemp -d -t certctl-kube-work.XXXXXX)
job='' own=''

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
  local status=$?
  trap '' INT TERM HUP
  if [[ -n $job ]]; then
    kill -TERM -- "-$job" 2>/dev/null || true
    wait "$job" 2>/dev/null || true
  fi
  if [[ -n $own ]]; then "$cluster" down; fi
  if [[ -z $given ]]; then rm -rf "$KUBE_STATE"; fi
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run CMD...: waits for it in a way that an interrupt ends at once.
run() {
  local status=0
  "$@" </dev/null &
  job=$!
  wait "$job" || status=$?
  job=
  return "$status"
}

run "$cluster" build
if ! "$cluster" exec true 2>/dev/null; then
  own=yes
  run "$cluster" up
fi
say "building the images of this checkout"
run env OUT="$work/images" "$repository/deploy/images/build.sh" >/dev/null
run "$cluster" load "$work"/images/*.tar
run go test -C "$repository" -c -tags kube -o "$work/kube.test" ./test/kube
cd "$HERE"
run "$cluster" exec env KUBE_CACHE="$KUBE_CACHE" KUBE_STATE="$KUBE_STATE" "$work/kube.test" -test.v -test.timeout 20m "$@"
