# shellcheck shell=bash
# Images by buildah: no daemon, no registry. Sourced, never run.

BUILDAH=(buildah --storage-driver overlay --root "$KUBE_CACHE/buildah" --runroot "$KUBE_CACHE/buildah-run")
export BUILDAH_ISOLATION=chroot

has_image() { [[ -n $("${BUILDAH[@]}" images -q "$1" 2>/dev/null) ]]; }

# image_in_store NAME DIRECTORY [OPTIONS...]: builds DIRECTORY's Containerfile.
image_in_store() {
  local name=$1 directory=$2
  shift 2
  "${BUILDAH[@]}" bud --quiet --pull-never "$@" -t "$name" "$directory" >/dev/null
}

# image NAME FILE DIRECTORY [OPTIONS...]: the same, and an archive of it in FILE.
image() {
  local name=$1 file=$2
  image_in_store "$name" "${@:3}"
  rm -f "$file"
  "${BUILDAH[@]}" push --quiet "$name" "oci-archive:$file:$name"
}
