"""Globals of Bazel 4 under names of their own: a file that exports `CcInfo` cannot name the global."""

native_cc_common = cc_common
NativeCcInfo = CcInfo
