#include "train/run/run_tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "data/tokenizer/word_cache.h"
#include "nlohmann/json.hpp"
#include "train/evaluation/choice_task_file.h"
#include "train/evaluation/text_encoder.h"
#include "train/evaluation/tokenizer_encoder.h"

namespace strake {
namespace {

// Whether nothing is at a path, or a folder without a tokenizer: one that was moved, or whose disk
// is away.
bool IsGone(const std::string& path) {
  const auto kind = PathKindOf(path);
  if (!kind.ok()) return false;
  return *kind == PathKind::kNothing || (*kind == PathKind::kDirectory && !HoldsTokenizer(path));
}

// Checkpoints carry the tokenizer's files, so a run goes on without what it began with.
ModelTokenizerPlaces FindPlaces(const TrainerOptions& options, const std::string& checkpoint,
                                std::vector<std::string>* notes) {
  const std::string& given = options.tokenizer;
  const bool gone =
      !given.empty() && !checkpoint.empty() && HoldsTokenizer(checkpoint) && IsGone(given);
  if (!gone)
    return {.given = given, .directories = {options.init_adapter, options.init_from, checkpoint}};
  notes->push_back(absl::StrCat(options.names.tokenizer, ": ", given,
                                " is gone; the run goes on with the tokenizer in ", checkpoint));
  return {.directories = {checkpoint}};
}

std::string FolderOfTokenizer(const std::string& path) {
  std::error_code error;
  return path.empty() || std::filesystem::is_directory(path, error) ? path : FolderOf(path);
}

// "a/arc.jsonl.gz" to "arc".
std::string TaskName(const std::string& path) {
  const std::string file = std::filesystem::path(path).filename().string();
  absl::string_view name = file;
  if (!absl::ConsumeSuffix(&name, ".gz")) absl::ConsumeSuffix(&name, ".zst");
  absl::ConsumeSuffix(&name, ".jsonl");
  return std::string(name);
}

// The error with its option, and what can be done about a missing tokenizer.
absl::Status NameTasks(const TrainerOptions& options, const RunTokenizer& tokenizer,
                       const absl::Status& error) {
  std::string message = absl::StrCat(options.names.eval_tasks, ": ", error.message());
  if (absl::IsFailedPrecondition(error)) {
    const absl::Status& unusable = tokenizer.unusable;
    if (!unusable.ok()) absl::StrAppend(&message, " (", unusable.message(), ")");
    absl::StrAppend(&message, "; give its tokenizer by ", options.names.tokenizer);
  }
  return absl::Status(error.code(), message);
}

// The name under which a directory's tokenizer is found: a file of any name may be one.
absl::StatusOr<std::string> CarriedName(const std::string& path, const std::string& content) {
  const std::string name = std::filesystem::path(path).filename().string();
  const size_t begin = content.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || content[begin] != '{') return name;
  STRAKE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(content, path));
  // A vocabulary has numbers alone.
  const auto has = [&](const char* key) { return json.contains(key) && !json[key].is_number(); };
  if (has("model")) return "tokenizer.json";
  return has("config") ? "tekken.json" : name;
}

// Adds the chat template that a folder's tokenizer has, wherever it stands there. One that cannot
// be read is none: a run needs it for conversations alone, which tell of it.
void AddChatTemplate(const std::string& folder, CarriedFiles* files) {
  auto text = ReadChatTemplate(folder);
  if (text.ok() && text->has_value()) files->emplace("chat_template.jinja", **std::move(text));
}

// Adds what a vocabulary or its merges are opened with.
absl::Status AddFilesBeside(const std::string& path, const std::string& name, CarriedFiles* files) {
  constexpr std::array<const char*, 2> kPairs[] = {{"vocab.json", "merges.txt"},
                                                   {"encoder.json", "vocab.bpe"}};
  for (const auto& pair : kPairs) {
    if (name != pair[0] && name != pair[1]) continue;
    for (const char* beside : {pair[0], pair[1], "added_tokens.json", "tokenizer_config.json"}) {
      const std::string file = std::filesystem::path(path).replace_filename(beside).string();
      STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(file));
      if (kind != PathKind::kFile) continue;
      STRAKE_ASSIGN_OR_RETURN((*files)[beside], ReadFile(file, kMaxTokenizerFileBytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsOfBytes(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (tokenizer.vocab_size() != kByteVocabSize || !spec.merges.empty() || !spec.added.empty()) {
    return false;
  }
  // Twice, so that what is put before a text, or made of two bytes, shows.
  std::string text;
  for (int i = 0; i < 2 * kByteVocabSize; ++i) text += static_cast<char>(i);
  WordCache cache;
  std::vector<int32_t> tokens;
  tokenizer.Encode(text, &cache, &tokens);
  return std::equal(
      tokens.begin(), tokens.end(), text.begin(), text.end(),
      [](int32_t token, char byte) { return token == static_cast<unsigned char>(byte); });
}

absl::StatusOr<RunTokenizer> OpenRunTokenizer(const TrainerOptions& options,
                                              const std::string& checkpoint) {
  RunTokenizer run;
  const ModelTokenizerPlaces places = FindPlaces(options, checkpoint, &run.notes);
  run.folder = FolderOfTokenizer(FindModelTokenizer(places));
  const int64_t vocab_size = options.engine.model.vocab_size;
  auto tokenizer = OpenModelTokenizer(places, vocab_size, {.pattern = options.tokenizer_pattern});
  if (!tokenizer.ok()) {
    if (options.tokenizer.empty()) {
      run.unusable = tokenizer.status();
      return run;
    }
    return NameError(options.names.tokenizer, tokenizer.status());
  }
  if (*tokenizer == nullptr) return run;
  if (IsOfBytes(**tokenizer) && vocab_size == kByteVocabSize) return run;
  run.tokenizer = *std::move(tokenizer);
  const int64_t num_tokens = run.tokenizer->vocab_size();
  if (num_tokens < vocab_size) {
    run.notes.push_back(absl::StrCat("the model has ", vocab_size,
                                     " tokens, of which its tokenizer uses the first ",
                                     num_tokens));
  }
  return run;
}

absl::StatusOr<std::vector<ChoiceTask>> OpenTasks(const TrainerOptions& options,
                                                  const RunTokenizer& tokenizer) {
  std::vector<ChoiceTask> tasks;
  const int64_t vocab_size = options.engine.model.vocab_size;
  std::optional<TextEncoder> encoder;
  if (tokenizer.tokenizer != nullptr) {
    encoder = EncoderOf(*tokenizer.tokenizer);
  } else if (vocab_size == kByteVocabSize) {
    encoder = ByteEncoder();
  }
  for (const std::string& path : options.eval_tasks) {
    auto task = OpenChoiceTask(path, encoder ? &*encoder : nullptr, vocab_size,
                               {.max_inputs = options.engine.seq_len});
    if (!task.ok()) return NameTasks(options, tokenizer, task.status());
    task->name = TaskName(path);
    const bool twice = std::any_of(tasks.begin(), tasks.end(),
                                   [&](const ChoiceTask& each) { return each.name == task->name; });
    if (twice) {
      return absl::InvalidArgumentError(absl::StrCat(options.names.eval_tasks,
                                                     ": two files are called ", task->name, ", ",
                                                     path, " and one before it; rename one"));
    }
    tasks.push_back(*std::move(task));
  }
  return tasks;
}

absl::StatusOr<CarriedFiles> ReadTokenizerFiles(const std::string& path,
                                                const Tokenizer& tokenizer) {
  CarriedFiles files;
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind == PathKind::kDirectory) {
    std::vector<std::string> skipped;
    STRAKE_ASSIGN_OR_RETURN(files, ReadCarriedFiles(path, &skipped));
    for (auto file = files.begin(); file != files.end();) {
      file = IsOfTokenizer(file->first) ? std::next(file) : files.erase(file);
    }
  } else {
    STRAKE_ASSIGN_OR_RETURN(std::string content, ReadFile(path, kMaxTokenizerFileBytes));
    STRAKE_ASSIGN_OR_RETURN(const std::string name, CarriedName(path, content));
    files[name] = std::move(content);
    STRAKE_RETURN_IF_ERROR(AddFilesBeside(path, name, &files));
    AddChatTemplate(FolderOf(path), &files);
  }
  if (files.contains("tokenizer.json") && files.contains("tokenizer_config.json")) return files;
  // Other programs open the model without these, or not, as they do the original.
  auto written = TokenizerFiles(tokenizer.spec());
  if (written.ok()) files.merge(*written);
  return files;
}

}  // namespace strake
