"""@rules_shell//shell:sh_test.bzl, from the rule that is built into Bazel 4."""

sh_test = native.sh_test
