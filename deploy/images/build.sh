#!/usr/bin/env bash
# Builds the images of the server and of the agent with buildah, without any
# registry: the programs are compiled here and copied onto an empty base. The
# same checkout, Go, CA bundle and settings give the same digests.
#
#   REGISTRY           where the images belong, ghcr.io/certctl-io by default
#   TAG                tag of the images, the chart's appVersion by default
#   PLATFORMS          such as linux/amd64,linux/arm64; several make an image index. This machine's by default
#   IMAGES             which ones: "server agent" by default; "backup" needs a base with PostgreSQL's client programs
#   BASE               base image of server and agent, scratch by default
#   BACKUP_BASE        base image of backup, the official image of PostgreSQL by default
#   CA_BUNDLE          CA certificates for the images, this machine's by default
#   SOURCE_DATE_EPOCH  time of everything in the images, that of the commit by default
#   OUT                directory that the images are written to as well, as OCI archives
#   LDFLAGS            flags for Go's linker
set -euo pipefail
cd "$(dirname "$0")/../.."

REGISTRY=${REGISTRY:-ghcr.io/certctl-io}
TAG=${TAG:-$(sed -n 's/^appVersion: *//p' deploy/helm/certctl/Chart.yaml)}
PLATFORMS=${PLATFORMS:-linux/$(go env GOARCH)}
IMAGES=${IMAGES:-server agent}
BASE=${BASE:-scratch}
BACKUP_BASE=${BACKUP_BASE:-docker.io/library/postgres:17.6-bookworm}
CA_BUNDLE=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
REVISION=$(git rev-parse HEAD)
export CGO_ENABLED=0 SOURCE_DATE_EPOCH

command -v buildah >/dev/null || {
  echo "images: buildah is not installed: apt-get install buildah" >&2
  exit 1
}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -m 700 "$context/state"
install -m 644 "$CA_BUNDLE" "$context/ca-certificates.crt"

# build NAME PROGRAM FOLDER BASE: one image, of each platform.
build() {
  local name=$REGISTRY/$1:$TAG program=$2 folder=$3 base=$4 platform args
  if [[ $PLATFORMS == *,* ]]; then
    buildah manifest rm "$name" >/dev/null 2>&1 || true # of an earlier build
  fi
  for platform in ${PLATFORMS//,/ }; do
    GOOS=${platform%/*} GOARCH=${platform#*/} go build -trimpath -ldflags "${LDFLAGS:--s -w}" -o "$context/$program" "./cmd/$program"
    chmod 755 "$context/$program"
    args=(--platform "$platform" --timestamp "$SOURCE_DATE_EPOCH" --format oci --no-cache --layers=false
      --build-arg BASE="$base" --build-arg VERSION="$TAG" --build-arg REVISION="$REVISION"
      --file "deploy/images/$folder/Containerfile")
    if [[ $PLATFORMS == *,* ]]; then
      buildah build --quiet "${args[@]}" --manifest "$name" "$context" >/dev/null
    else
      buildah build --quiet "${args[@]}" --tag "$name" "$context" >/dev/null
    fi
  done
  finish "$name" "$1"
}

# finish NAME FILE: write the image to OUT, and tell its digest.
finish() {
  if [[ $PLATFORMS == *,* ]]; then
    mkdir -p "${OUT:-.}"
    [[ -z ${OUT:-} ]] || buildah manifest push --quiet --all "$1" "oci-archive:$OUT/$2.tar:$1"
    printf '%s for %s\n' "$1" "$PLATFORMS"
    return
  fi
  if [[ -n ${OUT:-} ]]; then
    mkdir -p "$OUT"
    buildah push --quiet "$1" "oci-archive:$OUT/$2.tar:$1"
  fi
  printf '%s@%s\n' "$1" "$(buildah inspect --type image --format '{{.FromImageDigest}}' "$1")"
}

for image in $IMAGES; do
  case $image in
    server) build certctl certctl server "$BASE" ;;
    agent) build certctl-agent certctl-agent agent "$BASE" ;;
    backup) build certctl-backup certctl backup "$BACKUP_BASE" ;;
    *)
      echo "images: there is no image $image; choose from server, agent and backup" >&2
      exit 2
      ;;
  esac
done
