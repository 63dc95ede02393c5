"""@rules_cc//cc:cc_binary.bzl for Bazel 4."""

load(":defs.bzl", _cc_binary = "cc_binary")

cc_binary = _cc_binary
