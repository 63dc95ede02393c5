"""Headers that many sources read, read by the compiler once: what most of a small source takes."""

load("@rules_cc//cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

def _compile(ctx, cc_toolchain, features, context, header):
    """Runs gcc on `header`, with the options of the sources that will read it; what it made."""
    output = ctx.actions.declare_file(header.basename + ".gch")
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = cc_toolchain,
        source_file = header.path,
        output_file = output.path,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts +
                             ["-x", "c++-header"],
        include_directories = context.includes,
        quote_include_directories = context.quote_includes,
        system_include_directories = depset(
            # Bazel 4 has no second list.
            transitive = [context.system_includes, getattr(context, "external_includes", depset())],
        ),
        preprocessor_defines = context.defines,
    )
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
        ),
        arguments = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        env = cc_common.get_environment_variables(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        inputs = depset([header], transitive = [context.headers, cc_toolchain.all_files]),
        outputs = [output],
        mnemonic = "CppPrecompile",
        progress_message = "Precompiling %s" % header.short_path,
    )
    return output

def _precompiled_header_impl(ctx):
    cc_toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = cc_toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    deps = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps])
    header = ctx.actions.declare_file(ctx.label.name + ".h")
    ctx.actions.write(header, "".join(["#include \"%s\"\n" % path for path in ctx.attr.includes]))
    files = [header]
    if "gcc" in cc_toolchain.compiler_executable.split("/")[-1]:
        files.append(_compile(ctx, cc_toolchain, features, deps.compilation_context, header))
    own = cc_common.create_compilation_context(headers = depset(files))
    all_headers = cc_common.merge_cc_infos(
        direct_cc_infos = [CcInfo(compilation_context = own)],
        cc_infos = [deps],
    )
    return [
        DefaultInfo(files = depset(files)),
        CcInfo(compilation_context = all_headers.compilation_context),
    ]

precompiled_header = rule(
    implementation = _precompiled_header_impl,
    attrs = {
        "copts": attr.string_list(doc = "Options of the sources that read NAME.h."),
        "deps": attr.label_list(providers = [CcInfo]),
        "includes": attr.string_list(doc = "What NAME.h includes."),
        "_cc_toolchain": attr.label(default = "@rules_cc//cc:current_cc_toolchain"),
    },
    doc = "The header NAME.h of #includes, for `-include`, and what gcc made of it. Where a source's " +
          "options differ, gcc reads the header itself, as other compilers always do. A target that " +
          "depends on this one gets headers, and nothing to link.",
    fragments = ["cpp"],
    toolchains = use_cc_toolchain(),
)
