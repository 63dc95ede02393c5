"""@rules_shell//shell:sh_binary.bzl, from the rule that is built into Bazel 4."""

sh_binary = native.sh_binary
