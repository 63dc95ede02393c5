"""@rules_cc//cc:cc_test.bzl for Bazel 4."""

load(":defs.bzl", _cc_test = "cc_test")

cc_test = _cc_test
