#!/bin/bash
# Packs a GPU bundle: pack.sh MANIFEST STATUS ARCHIVE
#
# MANIFEST has a line "FILE<tab>PLACE" per file. The shared libraries of this machine that the files
# need are added below lib. "linked_cuda_libraries" lists CUDA's libraries that they need to start,
# and "commit" is the label of the build, from Bazel's STATUS file.
set -euo pipefail

manifest=$1 status=$2 archive=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
bundle=$scratch/gpu_bundle
mkdir -p "$bundle/lib"

# The C library belongs to a machine's loader, CUDA's libraries to its driver.
readonly NOT_PACKED='^((linux-vdso|ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libresolv|libutil)\.so|(libcuda|libcublas|libcublasLt|libcudnn|libnccl|libnvidia|libnvrtc)[-_.0-9a-z]*\.so)'

# "NAME PATH" of each library that $1 needs; the path "not" marks a missing one.
needed_libraries() {
  LC_ALL=C ldd "$1" 2>/dev/null | awk '$2 == "=>" { print $1, $3 }' || true
}

while IFS=$'\t' read -r file place; do
  mkdir -p "$(dirname "$bundle/$place")"
  cp -L "$file" "$bundle/$place"
  [[ -x $file ]] || continue
  if [[ $place == gpu_tests/* ]]; then
    # Names of functions are a fifth of a test; programs keep theirs, for the stack of a crash.
    chmod u+w "$bundle/$place"
    strip "$bundle/$place"
  fi
  while read -r name path; do
    [[ ! $name =~ ^libcublas ]] || echo "$name" >>"$scratch/linked"
    [[ ! $name =~ $NOT_PACKED ]] || continue
    if [[ $path == not ]]; then
      echo "error: $place needs $name, which this machine does not have" >&2
      exit 1
    fi
    [[ -e $bundle/lib/$name ]] || cp -L "$path" "$bundle/lib/$name"
  done < <(needed_libraries "$file")
done <"$manifest"
touch "$scratch/linked"
sort -u "$scratch/linked" >"$bundle/linked_cuda_libraries"
commit=$(sed -n 's/^BUILD_EMBED_LABEL //p' "$status")
echo "${commit:-unknown}" >"$bundle/commit"

# The same files give the same bytes.
chmod -R u=rwX,go=rX "$bundle"
tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory="$scratch" \
  gpu_bundle | gzip --best --no-name >"$archive"
