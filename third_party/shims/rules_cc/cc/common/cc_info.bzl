"""@rules_cc//cc/common:cc_info.bzl, from the global of Bazel 4."""

load(":native.bzl", "NativeCcInfo")

CcInfo = NativeCcInfo
