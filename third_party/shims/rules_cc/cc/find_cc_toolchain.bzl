"""@rules_cc//cc:find_cc_toolchain.bzl, from the same file of Bazel 4."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

find_cc_toolchain = find_cpp_toolchain

def use_cc_toolchain():
    return ["@bazel_tools//tools/cpp:toolchain_type"]
