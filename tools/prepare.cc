// Makes token files of text: `bazel run //tools:prepare -- --help`.

#include "data/text/prepare.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/format_quantity.h"
#include "core/base/monotonic_seconds.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_files.h"
#include "data/chat/chat_format.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"

namespace strake {
namespace {

// The exit code where a signal stopped it, as that of train.
constexpr int kStopped = 3;
constexpr char kNone[] = "none";

struct PrepareConfig {
  std::string data, tokenizer, tokenizer_pattern, out;
  std::string text_field = "text";
  std::string format = "auto";
  std::string chat_format, end_of_text;
  bool skip_bad_lines = false;
  int64_t threads = 0;
  bool quiet = false;
  int64_t max_file_tokens = PrepareOptions().max_file_tokens;
};

void AddPrepareOptions(PrepareConfig* c, OptionSet* options) {
  options->Group("Text");
  options->Add("data", &c->data,
               "files, folders and globs (** for any number of folders), separated by commas (\\, "
               "is one of a name): .txt, .md and other text, a document each, and .jsonl, a "
               "document a line; each may be compressed with gzip or zstd. - is standard input");
  options->Add("format", &c->format,
               "what files hold; auto: JSON lines in *.jsonl and *.ndjson, text in others; chat: "
               "conversations, which auto finds by the first line of JSON lines",
               {"auto", "text", "jsonl", "chat"});
  options->Add("text_field", &c->text_field, "the member of a JSON line that is the document");
  options->Add("skip_bad_lines", &c->skip_bad_lines,
               "leave out, and count, JSON lines that are broken or lack the field, and empty "
               "documents");
  options->Add(
      "chat_format", &c->chat_format,
      absl::StrCat("how conversations are written, lines with \"messages\", or "
                   "\"prompt\" and \"completion\": ",
                   ChatFormatNames(), "; without it, as the tokenizer's chat template says"));
  options->Group("Tokens");
  options->Add("tokenizer", &c->tokenizer,
               "a model's folder, or tokenizer.json, tekken.json, SentencePiece's *.model, or "
               "tiktoken's ranks");
  options->Add("tokenizer_pattern", &c->tokenizer_pattern,
               "the regular expression that cuts text into words, for ranks that are not known");
  options->Add(
      "end_of_text", &c->end_of_text,
      "the token after each document, as text; none: no token; empty: the tokenizer's own");
  options->Group("Output");
  options->Add("out", &c->out,
               "folder for the tokens, which must not exist, or hold what an equal call wrote; a "
               "call that was stopped goes on from OUT.unfinished");
  options->Add("max_file_tokens", &c->max_file_tokens,
               "tokens after which another file begins with the next document; a call that goes on "
               "keeps the files that were whole",
               Range::Between(1, 1e9));
  options->Add("threads", &c->threads, "threads that encode; 0: one per core",
               Range::Between(0, 4096));
  options->ShowDefault("threads", absl::StrCat(NumUsableCores()));
  AddQuietOption(&c->quiet, options);
  options->Paths({"tokenizer", "out"});
  options->PathLists({"data"});
}

absl::Status NeedsValue(const char* flag, const std::string& value, const char* what) {
  if (!value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": name ", what));
}

absl::StatusOr<int32_t> EndOfText(const PrepareConfig& config, const Tokenizer& tokenizer) {
  if (config.end_of_text == kNone) return -1;
  if (config.end_of_text.empty()) return tokenizer.spec().end_of_text.value_or(-1);
  const std::optional<int32_t> token = tokenizer.Find(config.end_of_text);
  if (token.has_value()) return *token;
  return absl::InvalidArgumentError(absl::StrCat("--end_of_text: \"", config.end_of_text,
                                                 "\" is no token of ", config.tokenizer));
}

DocumentOptions DocumentsOf(const PrepareConfig& config) {
  DocumentOptions documents;
  documents.field = config.text_field;
  documents.skip_bad_lines = config.skip_bad_lines;
  documents.name_of_skip_bad_lines = "--skip_bad_lines";
  if (config.format == "text") documents.format = DocumentOptions::Format::kText;
  if (config.format == "jsonl") documents.format = DocumentOptions::Format::kJsonLines;
  return documents;
}

WorkState WorkOf(const PrepareOptions::Progress& now) {
  return {.what = "preparing text",
          .done = static_cast<double>(now.bytes_read),
          .total = static_cast<double>(now.bytes_in_all),
          .unit = WorkUnit::kBytes,
          .resumed = static_cast<double>(now.bytes_resumed)};
}

std::string Counted(int64_t count, const char* one) {
  return absl::StrCat(count, " ", Plural(count, one));
}

void PrintSummary(const PrepareConfig& config, const PreparedTokens& tokens, double seconds) {
  const auto n = static_cast<double>(std::max<int64_t>(tokens.num_tokens, 1));
  const auto bytes = static_cast<double>(tokens.num_text_bytes);
  std::cout << Printable(config.out) << ": " << Counted(tokens.num_documents, "document") << ", "
            << Counted(tokens.num_tokens, "token") << " in "
            << Counted(static_cast<int64_t>(tokens.token_files.size()), "file")
            << (tokens.num_answer_tokens > 0
                    ? absl::StrCat(", ", tokens.num_answer_tokens, " of answers")
                    : "")
            << absl::StrFormat(", %.3f bytes of text per token", bytes / n);
  if (tokens.reused) {
    std::cout << "; it was there already\n";
  } else if (tokens.num_resumed_tokens > 0) {
    std::cout << "; " << Counted(tokens.num_resumed_tokens, "token")
              << " were there from an earlier call\n";
  } else {
    std::cout << absl::StrFormat("; %.1f MB/s\n", bytes / 1e6 / std::max(seconds, 1e-6));
  }
  if (tokens.num_bad_lines == 0 && tokens.num_empty_documents == 0) return;
  std::cout << "left out: " << Counted(tokens.num_bad_lines, "bad line") << ", "
            << Counted(tokens.num_empty_documents, "empty document");
  if (!tokens.first_bad_line.empty()) {
    std::cout << "; the first bad line: " << Printable(tokens.first_bad_line);
  }
  std::cout << "\n";
}

// Nothing where no file is of conversations.
absl::StatusOr<std::optional<ChatEncoder>> ChatOf(const PrepareConfig& config,
                                                  const std::vector<std::string>& files,
                                                  const Tokenizer& tokenizer) {
  if (config.format == "text" || config.format == "jsonl") return std::nullopt;
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(config.tokenizer));
  return OpenChatFiles(
      {.files = files,
       .all_are_chats = config.format == "chat",
       .text_field = config.text_field,
       .format = config.chat_format,
       .folder = kind == PathKind::kDirectory ? config.tokenizer : FolderOf(config.tokenizer),
       .name_of_files = "--data",
       .name_of_format = "--chat_format"},
      &tokenizer);
}

// Files of text do not need it, and a wrong one may be why they are taken for that.
absl::Status CheckChatFormat(const PrepareConfig& config) {
  if (config.chat_format.empty()) return absl::OkStatus();
  return NameError("--chat_format", FindChatFormat(config.chat_format).status());
}

absl::StatusOr<PrepareOptions> PrepareOptionsOf(const PrepareConfig& config,
                                                const Tokenizer& tokenizer) {
  PrepareOptions options;
  STRAKE_ASSIGN_OR_RETURN(options.files, FilesOfFlag("--data", config.data));
  STRAKE_ASSIGN_OR_RETURN(options.end_of_text, EndOfText(config, tokenizer));
  options.documents = DocumentsOf(config);
  options.directory = config.out;
  options.max_file_tokens = config.max_file_tokens;
  options.threads = config.threads > 0 ? static_cast<int>(config.threads) : NumUsableCores();
  options.stop_requested = [] { return StopRequested() != 0; };
  options.names = {.files = "--data", .directory = "--out"};
  return options;
}

absl::Status PrepareAndPrint(const PrepareConfig& config) {
  STRAKE_RETURN_IF_ERROR(NeedsValue("data", config.data, "files of text"));
  STRAKE_RETURN_IF_ERROR(NeedsValue("tokenizer", config.tokenizer, "a tokenizer's files"));
  STRAKE_RETURN_IF_ERROR(NeedsValue("out", config.out, "a folder for the tokens"));
  STRAKE_RETURN_IF_ERROR(CheckChatFormat(config));
  const auto tokenizer = OpenTokenizer(config.tokenizer, {.pattern = config.tokenizer_pattern});
  if (!tokenizer.ok()) return NameError("--tokenizer", tokenizer.status());
  STRAKE_ASSIGN_OR_RETURN(PrepareOptions options, PrepareOptionsOf(config, **tokenizer));
  STRAKE_ASSIGN_OR_RETURN(const std::optional<ChatEncoder> chat,
                          ChatOf(config, options.files, **tokenizer));
  const bool unused = !config.chat_format.empty() && !chat.has_value();
  options.chat = chat.has_value() ? &*chat : nullptr;
  InstallStopSignal();
  WorkScreen screen(STDOUT_FILENO, config.quiet);
  const double start = MonotonicSeconds();
  options.on_progress = [&](const PrepareOptions::Progress& now) { screen->Work(WorkOf(now)); };
  STRAKE_ASSIGN_OR_RETURN(const PreparedTokens tokens, PrepareTokens(**tokenizer, options));
  screen->EndWork();
  PrintSummary(config, tokens, MonotonicSeconds() - start);
  if (unused) {
    screen->PrintNote(absl::StrCat("--chat_format=", config.chat_format,
                                   " is not used: no file holds conversations"));
  }
  if (!chat.has_value() && options.end_of_text < 0 && config.end_of_text != kNone) {
    screen->PrintNote(
        "the tokenizer does not say which token ends a text, so documents follow each other "
        "without one; --end_of_text names one");
  }
  return FlushStdout();
}

absl::Status Prepare(int argc, char** argv) {
  ChangeToUserDirectory();
  PrepareConfig config;
  OptionSet options("prepare");
  AddPrepareOptions(&config, &options);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  return helped ? absl::OkStatus() : PrepareAndPrint(config);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::PrepareProcess();
  if (strake::HasVersionFlag(argc, argv)) return strake::PrintVersion();
  const absl::Status status = strake::Prepare(argc, argv);
  const int exit_code = strake::ExitCode(status);
  return absl::IsCancelled(status) ? strake::kStopped : exit_code;
}
