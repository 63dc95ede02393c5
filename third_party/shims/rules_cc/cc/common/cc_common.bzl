"""@rules_cc//cc/common:cc_common.bzl, from the global of Bazel 4."""

load(":native.bzl", "native_cc_common")

cc_common = native_cc_common
