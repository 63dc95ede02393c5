"""@rules_cc//cc:cc_library.bzl for Bazel 4."""

load(":defs.bzl", _cc_library = "cc_library")

cc_library = _cc_library
