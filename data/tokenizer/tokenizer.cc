#include "data/tokenizer/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/safe_cut.h"
#include "data/tokenizer/segment_encoder.h"
#include "data/tokenizer/sha256.h"
#include "data/tokenizer/tokenizer_parts.h"

namespace strake {
namespace {

absl::Status CheckId(int64_t id, int64_t vocab_size, const char* what) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is ", id, ", which is no token: there are ", vocab_size));
}

// Gives added tokens beyond the vocabulary their places in it.
absl::Status PlaceAddedTokens(TokenizerSpec* spec) {
  for (const AddedToken& token : spec->added) {
    STRAKE_RETURN_IF_ERROR(
        CheckId(token.id, kMaxVocabSize, absl::StrCat("added token \"", token.text, "\"").c_str()));
    if (token.id >= spec->tokens.size()) spec->tokens.resize(token.id + 1);
    if (spec->tokens[token.id].empty()) spec->tokens[token.id] = token.text;
  }
  return absl::OkStatus();
}

absl::Status CheckSpec(const TokenizerSpec& spec) {
  const int64_t size = spec.tokens.size();
  if (size > kMaxVocabSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("a vocabulary of ", size, " tokens; at most ", kMaxVocabSize, " are allowed"));
  }
  if (!spec.byte_tokens.empty() && spec.byte_tokens.size() != 256) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens for ", spec.byte_tokens.size(), " of the 256 bytes"));
  }
  for (const int32_t id : spec.byte_tokens) {
    STRAKE_RETURN_IF_ERROR(CheckId(id, size, "the token of a byte"));
  }
  for (const int32_t id : spec.prefix) {
    STRAKE_RETURN_IF_ERROR(CheckId(id, size, "a token put before a text"));
  }
  for (const int32_t id : spec.suffix) {
    STRAKE_RETURN_IF_ERROR(CheckId(id, size, "a token put after a text"));
  }
  const auto check = [&](std::optional<int32_t> id, const char* what) {
    return id.has_value() ? CheckId(*id, size, what) : absl::OkStatus();
  };
  STRAKE_RETURN_IF_ERROR(check(spec.unknown, "the token of what is unknown"));
  STRAKE_RETURN_IF_ERROR(check(spec.begin_of_text, "the token that begins a text"));
  return check(spec.end_of_text, "the token that ends a text");
}

AddedTokenMatcher MakeMatcher(const TokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> tokens;
  for (AddedToken token : parts.spec.added) {
    if (token.normalized != normalized) continue;
    if (normalized && !token.verbatim) {
      std::string buffer;
      token.text = std::string(parts.normalizers.Apply(token.text, false, &buffer));
    }
    tokens.push_back(std::move(token));
  }
  return AddedTokenMatcher(std::move(tokens));
}

// Normalized tokens are decoded to their normalized text, as Hugging Face does.
absl::StatusOr<DecoderChain> MakeDecoder(const TokenizerParts& parts) {
  TokenizerSpec spec;
  spec.tokens = parts.spec.tokens;
  spec.byte_tokens = parts.spec.byte_tokens;
  spec.unknown = parts.spec.unknown;
  spec.unknown_text = parts.spec.unknown_text;
  spec.decoders = parts.spec.decoders;
  for (const AddedToken& token : parts.spec.added) {
    if (!token.normalized || token.verbatim) continue;
    std::string buffer;
    spec.tokens[token.id] = std::string(parts.normalizers.Apply(token.text, false, &buffer));
  }
  return DecoderChain::Create(spec);
}

// Bytes from which a spec could be read again, for hashing.
class Canonical {
 public:
  void Add(absl::string_view text) {
    absl::StrAppend(&bytes_, text.size(), ":");
    bytes_.append(text.data(), text.size());
  }
  void Add(int64_t number) { absl::StrAppend(&bytes_, number, ";"); }

  std::string Hash() const { return Sha256Hex(bytes_).substr(0, 32); }

 private:
  std::string bytes_;
};

// Only the order of ranks counts, and so does the last of equal pairs.
void AddMerges(std::vector<Merge> merges, Canonical* out) {
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.left, a.right) < std::tie(b.left, b.right);
  });
  const auto is_same_pair = [](const Merge& a, const Merge& b) {
    return a.left == b.left && a.right == b.right;
  };
  merges.erase(merges.begin(), std::unique(merges.rbegin(), merges.rend(), is_same_pair).base());
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
  int64_t rank = -1;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i == 0 || merges[i].rank != merges[i - 1].rank) ++rank;
    out->Add(rank);
    out->Add(merges[i].left);
    out->Add(merges[i].right);
    out->Add(merges[i].result);
  }
}

void AddAddedTokens(std::vector<AddedToken> added, Canonical* out) {
  std::stable_sort(added.begin(), added.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (const AddedToken& token : added) {
    out->Add(token.id);
    out->Add(token.text);
    out->Add(token.lstrip + 2 * token.rstrip + 4 * token.single_word + 8 * token.normalized +
             16 * token.verbatim);
  }
}

void AddSteps(const TokenizerSpec& spec, Canonical* out) {
  for (const Normalizer& step : spec.normalizers) {
    out->Add(static_cast<int64_t>(step.kind));
    out->Add(step.pattern);
    out->Add(step.content);
    out->Add(step.left + 2 * step.right);
  }
  out->Add("pre-tokenizers");
  for (const PreTokenizer& step : spec.pre_tokenizers) {
    out->Add(static_cast<int64_t>(step.kind));
    out->Add(step.pattern);
    out->Add(static_cast<int64_t>(step.behavior));
    out->Add(static_cast<int64_t>(step.prepend));
    out->Add(step.literal + 2 * step.invert + 4 * step.individual + 8 * step.add_prefix_space +
             16 * step.use_regex + 32 * step.split);
  }
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  static std::atomic<uint64_t> num_tokenizers = 0;
  auto parts = std::make_unique<TokenizerParts>();
  parts->spec = std::move(spec);
  parts->number = ++num_tokenizers;
  STRAKE_RETURN_IF_ERROR(PlaceAddedTokens(&parts->spec));
  STRAKE_RETURN_IF_ERROR(CheckSpec(parts->spec));
  STRAKE_ASSIGN_OR_RETURN(parts->model, BytePairModel::Create(parts->spec));
  STRAKE_ASSIGN_OR_RETURN(parts->normalizers, NormalizerChain::Create(parts->spec.normalizers));
  STRAKE_ASSIGN_OR_RETURN(parts->pre_tokenizers,
                          PreTokenizerChain::Create(parts->spec.pre_tokenizers));
  STRAKE_ASSIGN_OR_RETURN(parts->decoder, MakeDecoder(*parts));
  parts->raw_added = MakeMatcher(*parts, /*normalized=*/false);
  parts->normalized_added = MakeMatcher(*parts, /*normalized=*/true);
  parts->is_special.resize(parts->spec.tokens.size());
  for (const AddedToken& token : parts->spec.added) {
    parts->added_ids[token.text] = token.id;
    if (token.special) parts->is_special[token.id] = true;
  }
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

int64_t Tokenizer::vocab_size() const { return parts_->spec.tokens.size(); }
const TokenizerSpec& Tokenizer::spec() const { return parts_->spec; }

std::string Tokenizer::Hash() const {
  const TokenizerSpec& spec = parts_->spec;
  Canonical canonical;
  for (const std::string& token : spec.tokens) canonical.Add(token);
  canonical.Add(spec.byte_level + 2 * spec.whole_words + 4 * spec.fuse_unknown);
  canonical.Add(spec.unknown.value_or(-1));
  for (const int32_t token : spec.byte_tokens) canonical.Add(token);
  canonical.Add("merges");
  AddMerges(spec.merges, &canonical);
  canonical.Add("added");
  AddAddedTokens(spec.added, &canonical);
  canonical.Add("normalizers");
  AddSteps(spec, &canonical);
  return canonical.Hash();
}

void Tokenizer::Encode(absl::string_view text, WordCache* cache, std::vector<int32_t>* tokens,
                       bool continues) const {
  cache->BeginUse(parts_->number);
  SegmentEncoder encoder(*parts_, cache, tokens);
  AddedTokenMatcher::Cursor cursor;
  AddedTokenMatcher::Match match;
  size_t end = 0;
  const auto place = [&] {
    return SegmentEncoder::Place{end == 0 && !continues, end == 0 && continues};
  };
  while (parts_->raw_added.Next(text, &cursor, &match)) {
    if (match.begin > end) encoder.Encode(text.substr(end, match.begin - end), place());
    tokens->push_back(match.id);
    end = match.end;
  }
  encoder.Encode(text.substr(end), place());
}

size_t Tokenizer::SafeCut(absl::string_view text) const { return strake::SafeCut(*parts_, text); }

std::string Tokenizer::Decode(absl::Span<const int32_t> tokens, bool skip_special) const {
  std::string text;
  bool is_first = true;
  for (const int32_t token : tokens) {
    if (skip_special && IsSpecial(token)) continue;
    const absl::string_view bytes = parts_->decoder.Text(token, is_first);
    text.append(bytes.data(), bytes.size());
    is_first = false;
  }
  const auto& begin = parts_->decoder.trim_begin();
  const auto& end = parts_->decoder.trim_end();
  absl::string_view rest = text;
  for (int64_t i = 0; i < begin.count && rest.substr(0, begin.content.size()) == begin.content;
       ++i) {
    rest.remove_prefix(begin.content.size());
  }
  for (int64_t i = 0; i < end.count && rest.size() >= end.content.size() &&
                      rest.substr(rest.size() - end.content.size()) == end.content;
       ++i) {
    rest.remove_suffix(end.content.size());
  }
  return std::string(rest);
}

std::optional<int32_t> Tokenizer::Find(absl::string_view token) const {
  const auto added = parts_->added_ids.find(token);
  if (added != parts_->added_ids.end()) return added->second;
  if (const auto found = parts_->model.Find(token); found.has_value()) return found;
  const auto& tokens = parts_->spec.tokens;
  const auto found = token.empty() ? tokens.end() : std::find(tokens.begin(), tokens.end(), token);
  if (found == tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - tokens.begin());
}

bool Tokenizer::IsSpecial(int32_t token) const {
  return token >= 0 && token < parts_->is_special.size() && parts_->is_special[token];
}

int64_t Tokenizer::NumBytes(int32_t token) const {
  return IsSpecial(token) ? 0 : parts_->decoder.Text(token, /*is_first=*/false).size();
}

}  // namespace strake
