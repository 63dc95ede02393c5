#include "data/tokenizer/formats/open_tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_level_spec.h"
#include "data/tokenizer/formats/sentencepiece_reader.h"
#include "data/tokenizer/formats/tekken_reader.h"
#include "data/tokenizer/formats/tiktoken_reader.h"
#include "data/tokenizer/formats/tokenizer_config.h"
#include "data/tokenizer/formats/tokenizer_json_reader.h"
#include "data/tokenizer/formats/vocab_merges_reader.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

// A vocabulary's file and that of its merges, which stand side by side.
struct VocabMergesNames {
  const char* vocab;
  const char* merges;
};
constexpr VocabMergesNames kVocabMerges[] = {{"vocab.json", "merges.txt"},
                                             {"encoder.json", "vocab.bpe"}};

bool IsFile(const std::string& path) {
  const auto kind = PathKindOf(path);
  return kind.ok() && *kind == PathKind::kFile;
}

// Tekken's and SentencePiece's names may end with a version: tokenizer.model.v3.
bool IsNamedLikeTokenizer(const std::string& name) {
  return absl::EndsWith(name, ".model") || absl::StrContains(name, ".model.v") ||
         absl::EndsWith(name, ".tiktoken") ||
         (absl::StartsWith(name, "tekken") && absl::EndsWith(name, ".json"));
}

std::vector<std::string> FilesNamedLikeTokenizers(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (IsNamedLikeTokenizer(name) && IsFile(absl::StrCat(directory, "/", name))) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The names of the tokenizers' files in a directory, of which the first format's are meant: none,
// one, or several that are equally likely.
std::vector<std::string> TokenizerFilesIn(const std::string& directory) {
  const auto has = [&](const char* name) { return IsFile(absl::StrCat(directory, "/", name)); };
  if (has("tokenizer.json")) return {"tokenizer.json"};
  for (const auto& [vocab, merges] : kVocabMerges) {
    if (has(vocab) && has(merges)) return {vocab};
  }
  for (const char* name : {"tekken.json", "tokenizer.model"}) {
    if (has(name)) return {name};
  }
  return FilesNamedLikeTokenizers(directory);
}

absl::StatusOr<std::string> FileOf(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind == PathKind::kNothing) {
    return absl::NotFoundError(path + ": there is no such tokenizer");
  }
  if (kind != PathKind::kDirectory) return path;
  const std::vector<std::string> names = TokenizerFilesIn(path);
  if (names.size() == 1) return absl::StrCat(path, "/", names[0]);
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(
        path, ": holds no tokenizer: no tokenizer.json, vocab.json with merges.txt, tekken.json, ",
        "*.model or *.tiktoken"));
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": holds several tokenizers, ",
                                                 absl::StrJoin(names, ", "), ": name one of them"));
}

// Tokens that no file flags: those with a role, and GPT-2's end of text.
std::vector<AddedToken> SpecialTokens(const TokenizerConfig& config,
                                      const BpeVocabulary& vocabulary) {
  std::vector<AddedToken> result;
  std::vector<std::string> texts = config.special;
  if (config.added.empty()) texts.push_back("<|endoftext|>");
  for (const std::string& text : texts) {
    const auto id = vocabulary.Find(text);
    if (id) result.push_back({*id, text, /*special=*/true});
  }
  return result;
}

absl::StatusOr<TokenizerSpec> ReadVocabMergesFiles(const json& vocab, const std::string& vocab_path,
                                                   const std::string& merges_path,
                                                   const TokenizerConfig& config) {
  STRAKE_ASSIGN_OR_RETURN(const std::string merges, ReadFile(merges_path));
  const std::string& name = config.tokenizer_class;
  absl::StatusOr<TokenizerSpec> spec = SpecOfClass(name.empty() ? "GPT2Tokenizer" : name);
  if (!spec.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(vocab_path, ": ", spec.status().message()));
  }
  STRAKE_ASSIGN_OR_RETURN(BpeVocabulary vocabulary,
                          ReadVocabMerges(vocab, vocab_path, merges, merges_path));
  std::vector<AddedToken> added = config.added;
  for (AddedToken& token : SpecialTokens(config, vocabulary)) added.push_back(std::move(token));
  for (AddedToken& token : added) {
    STRAKE_RETURN_IF_ERROR(
        vocabulary.AddToken(std::move(token), FolderOf(vocab_path) + "/tokenizer_config.json"));
  }
  if (config.added.empty()) spec->end_of_text = vocabulary.Find("<|endoftext|>");
  vocabulary.MoveTo(&*spec);
  return spec;
}

// The merges' file beside a vocabulary's.
absl::StatusOr<std::string> MergesPath(const std::string& vocab_path) {
  const std::string name = std::filesystem::path(vocab_path).filename().string();
  for (const auto& [vocab, merges] : kVocabMerges) {
    if (name == vocab) return absl::StrCat(FolderOf(vocab_path), "/", merges);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      vocab_path, ": is no tokenizer: it has neither a \"model\" nor a \"config\", and ",
      "is not named vocab.json, beside a merges.txt"));
}

// What a file without a post-processor leaves to its configuration.
absl::StatusOr<TokenizerSpec> Complete(absl::StatusOr<TokenizerSpec> spec, const std::string& path,
                                       const TokenizerConfig& config) {
  if (!spec.ok()) return spec;
  STRAKE_RETURN_IF_ERROR(AddConfiguredTokens(config, path, &*spec));
  STRAKE_RETURN_IF_ERROR(SetEnds(config, path, &*spec));
  SetPrefixAndSuffix(config, &*spec);
  return spec;
}

absl::StatusOr<TokenizerSpec> ReadJson(const std::string& text, const std::string& path,
                                       const TokenizerConfig& config) {
  STRAKE_ASSIGN_OR_RETURN(const json value, ParseJson(text, path));
  const auto has = [&](const char* key) {
    return value.contains(key) && !value[key].is_number();  // not a token of a vocabulary
  };
  if (has("model")) {
    STRAKE_ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerJson(value, path));
    STRAKE_RETURN_IF_ERROR(SetEnds(config, path, &spec));
    return spec;
  }
  if (has("config")) return Complete(ReadTekken(value, path), path, config);
  STRAKE_ASSIGN_OR_RETURN(const std::string merges_path, MergesPath(path));
  return Complete(ReadVocabMergesFiles(value, path, merges_path, config), path, config);
}

// A merges' file stands for its vocabulary.
std::string VocabPath(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  for (const auto& [vocab, merges] : kVocabMerges) {
    if (name == merges) return absl::StrCat(FolderOf(path), "/", vocab);
  }
  return path;
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerSpec(const std::string& path,
                                                const TokenizerOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(const std::string found, FileOf(path));
  const std::string file = VocabPath(found);
  STRAKE_ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(FolderOf(file)));
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin != std::string::npos && text[begin] == '{') return ReadJson(text, file, config);
  if (IsTiktokenRanks(text)) {
    return Complete(ParseTiktokenRanks(text, file, options.pattern), file, config);
  }
  // Such a model begins with a piece, the message's first field.
  if (absl::StartsWith(text, "\x0a")) {
    return Complete(ParseSentencePieceModel(text, file), file, config);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      file, ": is no tokenizer: neither JSON, nor tiktoken's ranks, nor a SentencePiece model"));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenTokenizer(const std::string& path,
                                                               const TokenizerOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerSpec(path, options));
  return NameError(path, Tokenizer::Create(std::move(spec)));
}

bool HoldsTokenizer(const std::string& directory) { return !TokenizerFilesIn(directory).empty(); }

TokenizerSpec ByteTokenizerSpec() {
  TokenizerSpec spec = ByteLevelSpec("");
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  return spec;
}

absl::Status CheckTokenizerFitsModel(const std::string& path, int64_t num_tokens,
                                     int64_t vocab_size) {
  if (num_tokens <= vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": the tokenizer has ", num_tokens, " tokens, and the model ", vocab_size,
                   "; give the model's own tokenizer, or a model that has as many"));
}

std::string FindModelTokenizer(const ModelTokenizerPlaces& places) {
  if (!places.given.empty()) return places.given;
  for (const std::string& directory : places.directories) {
    if (!directory.empty() && HoldsTokenizer(directory)) return directory;
  }
  return "";
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> OpenModelTokenizer(
    const ModelTokenizerPlaces& places, int64_t vocab_size, const TokenizerOptions& options) {
  const std::string path = FindModelTokenizer(places);
  if (path.empty()) {
    if (vocab_size == kByteVocabSize) return Tokenizer::Create(ByteTokenizerSpec());
    return nullptr;
  }
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<const Tokenizer> tokenizer, OpenTokenizer(path, options));
  STRAKE_RETURN_IF_ERROR(CheckTokenizerFitsModel(path, tokenizer->vocab_size(), vocab_size));
  return tokenizer;
}

}  // namespace strake
