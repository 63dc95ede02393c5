#!/bin/bash
# Runs a block of commands of the documents, or parses it, in the user's folder:
#
#   docs_commands.sh run|parse TOOLS BLOCK [PROGRAM FLAGS; PROGRAM FLAGS ...]
#
# TOOLS is the folder of Strake's programs, BLOCK a file of commands. To run, flags that make a program's
# work tiny are put behind its own. To parse, no command but the shell's own does anything, and Strake's
# programs parse their flags. Under the name of a command this script stands for it.

# Runs a program of Strake, or its parser alone, which --help is the last flag of.
program() {
  local name=${1#//tools:}
  shift
  if [[ ! -x $DOCS_TOOLS/$name ]]; then
    echo "there is no program //tools:$name" >&2
    return 1
  fi
  if [[ $DOCS_MODE == run ]]; then
    # Words of flags, not a text.
    # shellcheck disable=SC2046
    "$DOCS_TOOLS/$name" "$@" $(tiny_flags "$name")
  elif [[ $name == verify ]]; then
    refuse_flags "$@"
  else
    "$DOCS_TOOLS/$name" "$@" --help >/dev/null
  fi
}

tiny_flags() {
  local part parts name flags
  IFS=';' read -ra parts <<<"$DOCS_TINY"
  for part in "${parts[@]}"; do
    read -r name flags <<<"$part"
    if [[ $name == "$1" ]]; then echo "$flags"; fi
  done
}

# verify takes folders alone, and reads them before it looks for flags.
refuse_flags() {
  local argument
  for argument in "$@"; do
    if [[ $argument == -* ]]; then
      echo "verify has no flag $argument" >&2
      return 1
    fi
  done
}

bazel() {
  local verb=$1 target=
  shift
  while (($# > 0)) && [[ $1 != -- ]]; do
    if [[ $1 == //* ]]; then target=$1; fi
    shift
  done
  if (($# > 0)); then shift; fi
  if [[ $verb == run && $target == //tools:* ]]; then
    program "$target" "$@"
  elif [[ $DOCS_MODE == run && $verb != build ]]; then
    echo "bazel $verb $target cannot be run: mark the block with parse" >&2
    return 1
  fi
}

# mpirun and the like, whose own flags come before the program.
launcher() {
  while (($# > 0)) && [[ $1 != bazel-bin/tools/* ]]; do shift; done
  if (($# > 0)); then program "${1##*/}" "${@:2}"; fi
}

stand_in() {
  case ${0##*/} in
    bazel | bazelw) bazel "$@" ;;
    mpirun | srun | torchrun) launcher "$@" ;;
    *) if [[ $0 == *bazel-bin/tools/* ]]; then program "${0##*/}" "$@"; fi ;;
  esac
}

# Puts stand-ins where the block's commands are looked for.
place_stand_ins() {
  local self name
  self=$(realpath "$0")
  rm -rf .stand_ins
  mkdir -p .stand_ins bazel-bin/tools .ci gpu_bundle "$HOME"
  for name in ./bazelw .stand_ins/bazel .ci/run gpu_bundle/run.sh; do ln -sf "$self" "$name"; done
  for name in "$DOCS_TOOLS"/*; do
    if [[ -x $name && -f $name ]]; then ln -sf "$self" "bazel-bin/tools/${name##*/}"; fi
  done
  ln -sfn "$PWD" "$HOME/strake"
  if [[ $DOCS_MODE == run ]]; then return; fi
  for name in cat git kill mpirun nvidia-smi openssl pip python3 sbatch sed srun tail tar \
    tensorboard timeout torchrun; do
    ln -sf "$self" ".stand_ins/$name"
  done
}

main() {
  export DOCS_MODE=$1 DOCS_TOOLS=$2 DOCS_TINY=${4-} DOCS_FAILED=$PWD/.failed HOME=$PWD/home
  place_stand_ins
  rm -f "$DOCS_FAILED"
  if [[ $DOCS_MODE == parse ]]; then
    # shellcheck disable=SC2123
    PATH=$PWD/.stand_ins
    kill() { :; }
  else
    PATH=$PWD/.stand_ins:$PATH
  fi
  # Where a command fails that the shell does not wait for, or not last, the file says so.
  # shellcheck disable=SC1090
  source "$3"
  if [[ -e $DOCS_FAILED ]]; then exit 1; fi
}

if [[ -n ${DOCS_MODE-} ]]; then
  stand_in "$@"
  status=$?
  if ((status != 0)); then echo "${0##*/} $*" >>"$DOCS_FAILED"; fi
  exit $status
fi
set -e
cd "$BUILD_WORKING_DIRECTORY"
main "$@"
