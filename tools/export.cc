// Exports a model for other programs: `bazel run //tools:export -- --help`.

#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/format_quantity.h"
#include "core/base/name_error.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/work_state.h"
#include "tools/cli/checkpoint_flags.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "tools/generating/end_tokens.h"
#include "train/export/export_model.h"

namespace strake {
namespace {

struct ExportConfig {
  std::string checkpoint, base_model, out;
  std::string format = "auto";
  std::string dtype = "f32";
  std::string max_shard_size = "5GB";
  std::string gguf_pre;
  bool overwrite = false;
  bool quiet = false;
};

void AddExportOptions(ExportConfig* c, OptionSet* options) {
  options->Add("checkpoint", &c->checkpoint,
               "what to export: a checkpoint, the --out of a run, whose last checkpoint is taken, "
               "or a model directory in the Hugging Face layout; or an adapter of PEFT, which is "
               "merged into its base");
  options->Add("base_model", &c->base_model, kBaseModelHelp);
  options->Add("out", &c->out,
               "where to: a folder of a model, or a GGUF file. It appears when it is whole, and "
               "must not exist; until then it is OUT.unfinished");
  options->Add("format", &c->format,
               "hf: a folder that transformers opens, with the tokenizer and the other files that "
               "the checkpoint carries; gguf: one file for programs built on ggml, with tokenizer, "
               "chat template and end tokens; auto: gguf where OUT ends in .gguf, else hf",
               {"auto", "hf", "gguf"});
  options->Add("dtype", &c->dtype,
               "of matrices; in gguf, vectors stay f32. q8_0, of gguf alone: 32 integers of 8 bits "
               "and a scale",
               {"f32", "f16", "bf16", "q8_0"});
  options->Add("max_shard_size", &c->max_shard_size,
               "of hf: weights lie in several files where they are larger; bytes, or with KB, MB, "
               "GB, KiB, MiB, GiB");
  options->Add("gguf_pre", &c->gguf_pre,
               "of gguf: the name that its readers know the tokenizer's way to cut words by, where "
               "Strake knows none");
  options->Add("overwrite", &c->overwrite,
               "replace OUT: a file, or a folder that holds a model, and no folders but that of "
               "its chat templates");
  AddQuietOption(&c->quiet, options);
  options->Paths({"checkpoint", "base_model", "out"});
}

absl::Status Bad(absl::string_view flag, absl::string_view value, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", value, ": ", what));
}

// "5GB" to 5000000000.
absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  struct Unit {
    const char* name;
    double bytes;
  };
  constexpr Unit kUnits[] = {{"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
                             {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9}};
  absl::string_view number = text;
  double bytes = 1, count;
  for (const Unit& unit : kUnits) {
    if (!absl::ConsumeSuffix(&number, unit.name)) continue;
    bytes = unit.bytes;
    break;
  }
  if (absl::SimpleAtod(number, &count) && count * bytes >= 1 && count * bytes <= 1e18) {
    return static_cast<int64_t>(count * bytes);
  }
  return Bad("max_shard_size", text, "is no size, as 500MB or 5000000000 are");
}

ExportDType DTypeOf(const std::string& name) {
  if (name == "f16") return ExportDType::kF16;
  if (name == "bf16") return ExportDType::kBf16;
  return name == "q8_0" ? ExportDType::kQ8_0 : ExportDType::kF32;
}

absl::StatusOr<ExportOptions> ExportOptionsOf(const ExportConfig& config, const OptionSet& set,
                                              const OnWork& on_work) {
  for (const char* flag : {"checkpoint", "out"}) {
    if (!set.IsSet(flag)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", flag, ": name ", flag[0] == 'o' ? "a folder, or a file *.gguf" : "a model"));
    }
  }
  ExportOptions options;
  const bool gguf =
      config.format == "gguf" || (config.format == "auto" && absl::EndsWith(config.out, ".gguf"));
  options.format = gguf ? ExportFormat::kGguf : ExportFormat::kHuggingFace;
  options.dtype = DTypeOf(config.dtype);
  if (!gguf && options.dtype == ExportDType::kQ8_0) {
    return Bad("dtype", config.dtype, "only --format=gguf has it");
  }
  for (const char* flag : {"max_shard_size", "gguf_pre"}) {
    const bool of_gguf = absl::StartsWith(flag, "gguf");
    if (set.IsSet(flag) && of_gguf != gguf) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": only --format=", of_gguf ? "gguf" : "hf", " has it"));
    }
  }
  STRAKE_ASSIGN_OR_RETURN(options.max_file_bytes, ParseBytes(config.max_shard_size));
  STRAKE_ASSIGN_OR_RETURN(const GivenCheckpoint checkpoint,
                          ReadCheckpointFlag(config.checkpoint, config.base_model, on_work));
  options.directory = checkpoint.directory;
  options.base_model = config.base_model.empty() ? "" : checkpoint.files.base;
  if (gguf) {  // the tokenizer may say it where the model's files do not
    STRAKE_ASSIGN_OR_RETURN(
        options.end_tokens,
        NameError("--checkpoint",
                  ReadEndTokens(checkpoint.files.FolderWith("generation_config.json"),
                                /*tokenizer=*/nullptr, checkpoint.model.vocab_size)));
  }
  options.out = config.out;
  options.pre_tokenizer = config.gguf_pre;
  options.overwrite = config.overwrite;
  return options;
}

absl::Status WithFlag(const absl::Status& status, const ExportConfig& config) {
  if (absl::IsAlreadyExists(status)) {
    return absl::Status(status.code(), absl::StrCat("--out: ", status.message(),
                                                    config.overwrite ? "" : " (--overwrite)"));
  }
  return status;
}

absl::Status ExportAndPrint(const ExportConfig& config, const OptionSet& set) {
  WorkScreen screen(STDOUT_FILENO, config.quiet);
  STRAKE_ASSIGN_OR_RETURN(ExportOptions options, ExportOptionsOf(config, set, screen->Teller()));
  options.on_progress = [&](double share) {
    screen->Work({.what = "writing " + Printable(config.out), .done = share, .total = 1});
  };
  const absl::StatusOr<ExportedModel> exported = ExportModel(options);
  screen->EndWork();
  if (!exported.ok()) return WithFlag(exported.status(), config);
  for (const std::string& notice : exported->notices) {
    if (!config.quiet) std::cerr << "note: " << Printable(notice) << "\n";
  }
  std::cout << Printable(config.out) << ": "
            << FormatCount(static_cast<double>(exported->num_parameters)) << " parameters, "
            << config.dtype << ", " << FormatBytes(static_cast<double>(exported->num_bytes))
            << " in " << exported->num_files << " " << Plural(exported->num_files, "file") << "\n";
  return FlushStdout();
}

absl::Status Export(int argc, char** argv) {
  ChangeToUserDirectory();
  ExportConfig config;
  OptionSet options("export");
  AddExportOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  return helped ? absl::OkStatus() : ExportAndPrint(config, options);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Export); }
