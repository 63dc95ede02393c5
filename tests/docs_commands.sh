#!/bin/bash
# Runs a block of commands of the documents, or parses it, in the user's folder:
#
#   docs_commands.sh run|parse TOOLS BLOCK [PROGRAM FLAGS; PROGRAM FLAGS ...]
#
# TOOLS is the folder of Strake's programs, BLOCK a file of commands. To run, flags that make a
# program's work tiny are put behind its own. To parse, no command but the shell's own does anything,
# and Strake's programs parse their flags. Under the name of a command this script stands for it.

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

# Puts stand-ins where the block's commands are looked for, unless an earlier block of the page has.
place_stand_ins() {
  if [[ -e .stand_ins/$DOCS_MODE ]]; then return; fi
  local self names=(bazel)
  self=$(realpath "$0")
  if [[ $DOCS_MODE == parse ]]; then
    names+=(cat git mpirun openssl pip python3 sed srun tail tar tensorboard timeout torchrun)
  fi
  mkdir -p ".stand_ins/$DOCS_MODE" bazel-bin/tools .ci gpu_bundle "$HOME"
  ln -sf "$self" ./bazelw
  ln -sf "$self" .ci/run
  ln -sf "$self" gpu_bundle/run.sh
  ln -sfn "$PWD" "$HOME/strake"
  link_each bazel-bin/tools "$self" "$DOCS_TOOLS"/*
  link_each ".stand_ins/$DOCS_MODE" "$self" "${names[@]}"
}

# Makes links of these names in a folder.
link_each() {  # FOLDER TARGET NAMES
  local folder=$1 target=$2 name
  shift 2
  for name in "$@"; do
    if [[ ! -e $folder/${name##*/} ]]; then ln -s "$target" "$folder/${name##*/}"; fi
  done
}

main() {
  export DOCS_MODE=$1 DOCS_TOOLS=$2 DOCS_TINY=${4-} DOCS_FAILED=$PWD/.failed HOME=$PWD/home
  place_stand_ins
  rm -f "$DOCS_FAILED"
  if [[ $DOCS_MODE == parse ]]; then
    # shellcheck disable=SC2123
    PATH=$PWD/.stand_ins/parse
    kill() { :; }
  else
    PATH=$PWD/.stand_ins/run:$PATH
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
