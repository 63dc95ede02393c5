# Finds CUDA's libraries on this machine.

# The searched places are below this folder; tests set another one.
system=${STRAKE_SYSTEM_ROOT:-}

# The driver's libraries, those that are loaded on demand, and NVRTC, which cuDNN loads.
readonly LOADED_LIBRARIES='libcuda.so.1 libcudnn.so.9 libnccl.so.2 libnvrtc.so'

# The folders to search, the best first: the driver's in containers, toolkits', and those of the
# wheels that PyTorch installs.
library_folders() {
  local python
  python=$(command -v python3 || true)
  compgen -G "$system/usr/local/nvidia/lib64"
  [[ -z ${CUDA_HOME:-} ]] || compgen -G "$CUDA_HOME/lib*"
  compgen -G "$system/usr/local/cuda/lib*"
  compgen -G "$system/usr/local/cuda-*/lib*" | sort --reverse --version-sort
  compgen -G "$system/opt/cuda/lib*"
  local root site
  for root in ${VIRTUAL_ENV:-} ${CONDA_PREFIX:-} ${python:+"${python%/bin/python3}"} \
    ${HOME:+"$HOME/.local"} "$system"/usr/local "$system"/usr \
    "$system"/opt/* "$system"/opt/*/.venv; do
    for site in "$root"/lib/python3*/{site,dist}-packages; do
      compgen -G "$site/nvidia/*/lib"
      compgen -G "$site/torch/lib"
    done
  done
  compgen -G "$system/usr/lib/wsl/lib"
}

# The file of library $1 (or of a later version), empty if there is none. The loader's own places
# come first.
find_library() {
  local folder file
  file=$([[ -n $system ]] || PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | awk -v name="$1" \
    'index($1, name) == 1 { print $NF; exit }')
  [[ -z $file ]] || { echo "$file" && return; }
  while read -r folder; do
    for file in "$folder/$1"*; do
      [[ ! -e $file ]] || { echo "$file" && return; }
    done
  done <"$scratch/folders"
}

# Sets LD_LIBRARY_PATH to the bundle's libraries and the folders of CUDA's; writes the files found
# to $scratch/libraries, one line "NAME FILE" each.
find_libraries() {
  library_folders >"$scratch/folders" 2>/dev/null
  local name file folders=$bundle/lib
  for name in $LOADED_LIBRARIES $(cat "$bundle/linked_cuda_libraries"); do
    file=$(find_library "$name")
    printf '%-18s %s\n' "$name" "$(readlink -f "${file:-/}" | sed 's|^/$|not found|')"
    # The system's folders also hold other libraries, which must not precede the bundle's.
    [[ -z $file ]] || folders+=:$(dirname "$file")
  done >"$scratch/libraries"
  export LD_LIBRARY_PATH=$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

has_library() { grep -q "^$1 .*/" "$scratch/libraries"; }

# The reason why no GPU can be used; empty where one can.
missing_gpu() {
  local said status=0
  said=$(STRAKE_REQUIRE_GPU=0 timeout 60 "$bundle/gpu_tests/cuda_runtime_gpu_test" \
    --gtest_filter=CudaRuntimeTest.DescribesItsDevices 2>&1) || status=$?
  if [[ $said == *'no usable GPU: '* ]]; then
    grep -o -m 1 'no usable GPU: .*' <<<"$said"
  elif ((status == 124)); then
    echo "the GPU does not answer within a minute"
  elif ((status)) && [[ $said != *'[ RUN '* ]]; then
    echo "gpu_tests/cuda_runtime_gpu_test does not start: ${said:-exit code $status}"
  fi
}

num_gpus() {
  local gpus
  if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    gpus=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)
  else
    gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ')
  fi
  echo $((gpus > 0 ? gpus : 1))
}
