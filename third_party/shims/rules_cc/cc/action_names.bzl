"""The names of @rules_cc//cc:action_names.bzl that Strake loads, for Bazel 4."""

CPP_COMPILE_ACTION_NAME = "c++-compile"
