#include "data/tokenizer/formats/gguf_vocabulary.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_letters.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/pattern_splitter.h"
#include "data/tokenizer/words/splitter.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr char kBlank[] = "\u2581";  // SentencePiece's sign for a blank

absl::Status HasNoForm(const std::string& what) {
  return absl::UnimplementedError(absl::StrCat("GGUF has no form for the tokenizer's ", what));
}

// --- What both algorithms have. ---

// Tokens of kNormal and kUnused, and those that the spec flags.
void SetTypes(const TokenizerSpec& spec, GgufVocabulary* vocabulary) {
  std::vector<GgufTokenType>& types = vocabulary->types;
  types.assign(vocabulary->tokens.size(), GgufTokenType::kNormal);
  for (const AddedToken& added : spec.added) {
    types[added.id] = added.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined;
  }
  for (const int32_t id : spec.byte_tokens) types[id] = GgufTokenType::kByte;
  if (spec.unknown.has_value()) types[*spec.unknown] = GgufTokenType::kUnknown;
  for (size_t id = 0; id < types.size(); ++id) {
    if (!vocabulary->tokens[id].empty()) continue;
    vocabulary->tokens[id] = absl::StrCat("[PAD", id, "]");
    types[id] = GgufTokenType::kUnused;
  }
}

// Sets the token that is put before or after every text: none, or the one of that role.
absl::Status SetEnd(const std::vector<int32_t>& put, const char* where,
                    const std::optional<int32_t>& known, std::optional<int32_t>* token,
                    bool* adds) {
  *token = known;
  *adds = !put.empty();
  if (put.empty()) return absl::OkStatus();
  if (put.size() > 1) {
    return HasNoForm(absl::StrCat(put.size(), " tokens ", where, " a text"));
  }
  if (!known.has_value()) *token = put[0];
  if (**token == put[0]) return absl::OkStatus();
  return HasNoForm(absl::StrCat("token ", put[0], " ", where, " a text, where token ", **token,
                                " is the one of that role"));
}

// --- Byte-level merges. ---

struct KnownPre {
  std::vector<std::string> patterns;
  const char* name;
  const char* whole_words_name = nullptr;  // where words that are tokens become them
  bool without_marks = false;              // its readers take combining marks for no letters
};

// Ways to cut words by the patterns that do it, one after the other.
const std::vector<KnownPre>& KnownPres() {
  static const auto* const known = new std::vector<KnownPre>{
      {{kGpt2Words}, "gpt-2"},
      {{kGpt2Possessive}, "gpt-2"},
      {{kLlama3Words}, "dbrx", "llama-bpe"},
      {{kLlama3Possessive}, "dbrx", "llama-bpe"},
      {{kQwen2Words}, "qwen2"},
      {{kQwen35Words}, "qwen35"},
      {{kO200kWords}, "gpt-4o", nullptr, true},
      {{kTekkenWords}, "tekken", nullptr, true},
      {{kDigitPattern, kGpt2Words}, "smollm"},
      {{kDeepSeekNumbers, kDeepSeekEastAsian, kDeepSeekWords}, "deepseek-v3"},
  };
  return *known;
}

// Whether matches become pieces, and what lies between them is a piece or empty.
bool CutsAtMatches(const PreTokenizer& p) {
  using Behavior = PreTokenizer::Behavior;
  return !p.literal && ((p.behavior == Behavior::kIsolated && !p.invert) ||
                        (p.behavior == Behavior::kRemoved && p.invert));
}

absl::StatusOr<std::vector<std::string>> PatternsOf(const TokenizerSpec& spec) {
  std::vector<std::string> patterns;
  for (const PreTokenizer& p : spec.pre_tokenizers) {
    if (p.kind == PreTokenizer::Kind::kByteLevel && !p.add_prefix_space) {
      if (p.use_regex) patterns.push_back(kGpt2Words);
    } else if (p.kind == PreTokenizer::Kind::kDigits) {
      patterns.push_back(p.individual ? kDigitPattern : kDigitsPattern);
    } else if (p.kind == PreTokenizer::Kind::kSplit && CutsAtMatches(p)) {
      // Some files escape what needs none.
      patterns.push_back(absl::StrReplaceAll(WithEscapedLineEnds(p.pattern), {{"\\\"", "\""}}));
    } else if (p.add_prefix_space) {
      return HasNoForm("blank before a text of bytes");
    } else {
      return HasNoForm("way to cut text into words");
    }
  }
  return patterns;
}

absl::StatusOr<std::string> PreOf(const TokenizerSpec& spec, std::vector<std::string>* notices) {
  // Words do not matter to what merges nothing.
  if (spec.merges.empty()) return std::string("gpt-2");
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> patterns, PatternsOf(spec));
  for (const KnownPre& known : KnownPres()) {
    if (known.patterns != patterns) continue;
    if (known.without_marks) {
      notices->push_back(
          "readers of GGUF may cut words of combining marks, as Hindi's and Thai's, otherwise than "
          "the tokenizer");
    }
    const bool whole = spec.whole_words && known.whole_words_name != nullptr;
    return std::string(whole ? known.whole_words_name : known.name);
  }
  return HasNoForm(patterns.empty() ? "uncut text" : absl::StrCat("pattern ", patterns.back()));
}

absl::Status CheckByteLevelNormalizers(const TokenizerSpec& spec,
                                       std::vector<std::string>* notices) {
  for (const Normalizer& normalizer : spec.normalizers) {
    if (normalizer.kind != Normalizer::Kind::kNfc) return HasNoForm("normalizer of text");
    notices->push_back(
        "readers of GGUF do not compose characters (NFC) as the tokenizer does; text that is "
        "composed already has the same tokens");
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufVocabulary> ByteLevelVocabulary(const TokenizerSpec& spec, int64_t vocab_size,
                                                   const std::string& pre) {
  GgufVocabulary vocabulary = {.model = "gpt2", .pre = pre};
  if (pre.empty()) {
    STRAKE_ASSIGN_OR_RETURN(vocabulary.pre, PreOf(spec, &vocabulary.notices));
  }
  STRAKE_RETURN_IF_ERROR(CheckByteLevelNormalizers(spec, &vocabulary.notices));
  for (const std::string& token : spec.tokens) vocabulary.tokens.push_back(ByteLetters(token));
  vocabulary.tokens.resize(vocab_size);
  for (const AddedToken& added : spec.added) vocabulary.tokens[added.id] = added.text;
  std::vector<Merge> merges = spec.merges;
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
  for (const Merge& merge : merges) {
    vocabulary.merges.push_back(absl::StrCat(ByteLetters(spec.tokens[merge.left]), " ",
                                             ByteLetters(spec.tokens[merge.right])));
  }
  return vocabulary;
}

// --- SentencePiece's merges. ---

absl::Status SetBlanks(const TokenizerSpec& spec, GgufVocabulary* vocabulary) {
  bool replaces = false;
  for (const Normalizer& n : spec.normalizers) {
    if (n.kind == Normalizer::Kind::kPrepend && n.content == kBlank) {
      vocabulary->add_space_prefix = true;
    } else if (n.kind == Normalizer::Kind::kReplace && n.pattern == " " && n.content == kBlank) {
      replaces = true;
    } else {
      return HasNoForm("normalizer of text");
    }
  }
  for (const PreTokenizer& p : spec.pre_tokenizers) {
    if (p.kind == PreTokenizer::Kind::kMetaspace && p.pattern == kBlank) {
      replaces = true;
      vocabulary->add_space_prefix |= p.prepend != PreTokenizer::Prepend::kNever;
    } else if (p.kind != PreTokenizer::Kind::kSplit || !p.literal || p.pattern != kBlank) {
      return HasNoForm("way to cut text into words");
    }
  }
  return replaces ? absl::OkStatus() : HasNoForm("blanks, which it keeps");
}

// Ordinary tokens by their text.
using TokensByText = std::unordered_map<std::string, int32_t>;

TokensByText MergeableTokens(const TokenizerSpec& spec, const GgufVocabulary& vocabulary) {
  TokensByText tokens;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (vocabulary.types[id] == GgufTokenType::kNormal) {
      tokens.emplace(spec.tokens[id], static_cast<int32_t>(id));
    }
  }
  return tokens;
}

// The number of ways to cut a token into two others, which SentencePiece merges all.
int64_t NumCuts(const std::string& token, const TokensByText& tokens) {
  int64_t cuts = 0;
  for (size_t at = 1; at < token.size(); ++at) {
    cuts += tokens.count(token.substr(0, at)) * tokens.count(token.substr(at));
  }
  return cuts;
}

// Scores by the merges' order. Readers merge whatever makes a token, the one of the highest score
// first, so merges must be all that there can be, and those of a token follow each other.
absl::Status SetScores(const TokenizerSpec& spec, GgufVocabulary* vocabulary) {
  std::vector<Merge> merges = spec.merges;
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
  vocabulary->scores.assign(vocabulary->tokens.size(), 0);
  // Others never meet a merge: text is cut at added tokens first.
  const auto is_normal = [&](int32_t id) {
    return vocabulary->types[id] == GgufTokenType::kNormal;
  };
  std::vector<int64_t> num_merges(vocabulary->tokens.size(), 0);
  std::vector<bool> seen(vocabulary->tokens.size(), false);
  int64_t group = 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    const int32_t result = merges[i].result;
    const bool begins = i == 0 || merges[i - 1].result != result;
    if (begins && seen[result]) {
      return HasNoForm(absl::StrCat("order of merges, in which token ", result, " comes twice"));
    }
    if (begins) vocabulary->scores[result] = static_cast<float>(-++group);
    num_merges[result] += is_normal(merges[i].left) && is_normal(merges[i].right) ? 1 : 0;
    seen[result] = true;
  }
  const TokensByText tokens = MergeableTokens(spec, *vocabulary);
  for (const auto& [text, id] : tokens) {
    if (NumCuts(text, tokens) == num_merges[id]) continue;
    return HasNoForm(absl::StrCat("merges, of which token ", id, " has ", num_merges[id],
                                  ", but it can be cut in ", NumCuts(text, tokens), " ways"));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufVocabulary> SentencePieceVocabulary(const TokenizerSpec& spec,
                                                       int64_t vocab_size) {
  GgufVocabulary vocabulary = {.model = "llama", .pre = "default"};
  if (spec.byte_tokens.empty()) return HasNoForm("characters without byte fallback");
  if (spec.whole_words) return HasNoForm("words that become tokens whatever the merges");
  STRAKE_RETURN_IF_ERROR(SetBlanks(spec, &vocabulary));
  vocabulary.tokens = spec.tokens;
  vocabulary.tokens.resize(vocab_size);
  for (const AddedToken& added : spec.added) vocabulary.tokens[added.id] = added.text;
  vocabulary.unknown = spec.unknown;
  return vocabulary;
}

}  // namespace

absl::StatusOr<GgufVocabulary> MakeGgufVocabulary(const TokenizerSpec& spec, int64_t vocab_size,
                                                  const std::string& pre) {
  CHECK_GE(vocab_size, static_cast<int64_t>(spec.tokens.size())) << "[gguf_vocabulary] tokens";
  STRAKE_ASSIGN_OR_RETURN(GgufVocabulary vocabulary,
                          spec.byte_level ? ByteLevelVocabulary(spec, vocab_size, pre)
                                          : SentencePieceVocabulary(spec, vocab_size));
  SetTypes(spec, &vocabulary);
  if (!spec.byte_level) STRAKE_RETURN_IF_ERROR(SetScores(spec, &vocabulary));
  STRAKE_RETURN_IF_ERROR(SetEnd(spec.prefix, "before", spec.begin_of_text,
                                &vocabulary.begin_of_text, &vocabulary.add_begin_of_text));
  STRAKE_RETURN_IF_ERROR(SetEnd(spec.suffix, "after", spec.end_of_text, &vocabulary.end_of_text,
                                &vocabulary.add_end_of_text));
  return vocabulary;
}

}  // namespace strake
