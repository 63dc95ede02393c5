// Vocabularies and texts at random, for tests.
#ifndef STRAKE_DATA_TOKENIZER_RANDOM_SPEC_H_
#define STRAKE_DATA_TOKENIZER_RANDOM_SPEC_H_

#include <cstdint>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

using Random = std::mt19937_64;

inline size_t Below(size_t n, Random* random) { return (*random)() % n; }

// So many of these characters, or texts.
inline std::string RandomText(const std::vector<std::string>& characters, size_t count,
                              Random* random) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += characters[Below(characters.size(), random)];
  return text;
}

// Adds merges of tokens that `may_merge` allows. Ranks are at random too, some of them equal.
template <typename MayMerge>
void AddRandomMerges(int num_merges, Random* random, TokenizerSpec* spec, MayMerge may_merge) {
  std::unordered_map<std::string, int32_t> ids;
  std::vector<int32_t> usable;
  for (int32_t id = 0; id < spec->tokens.size(); ++id) {
    ids.emplace(spec->tokens[id], id);
    if (may_merge(spec->tokens[id])) usable.push_back(id);
  }
  for (int tries = 0; tries < 20 * num_merges && spec->merges.size() < num_merges; ++tries) {
    const int32_t left = usable[Below(usable.size(), random)];
    const int32_t right = usable[Below(usable.size(), random)];
    const std::string text = spec->tokens[left] + spec->tokens[right];
    if (text.size() > 24 || !may_merge(text)) continue;
    const auto [place, is_new] = ids.emplace(text, spec->tokens.size());
    if (is_new) {
      spec->tokens.push_back(text);
      usable.push_back(place->second);
    }
    const auto rank = static_cast<int64_t>(Below(2 * num_merges, random));
    spec->merges.push_back({left, right, place->second, rank});
  }
}

// All bytes, and merges among those of `alphabet`.
inline TokenizerSpec RandomByteLevelSpec(const std::string& alphabet, int num_merges,
                                         Random* random) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  AddRandomMerges(num_merges, random, &spec, [&](const std::string& text) {
    return text.find_first_not_of(alphabet) == std::string::npos;
  });
  spec.decoders = {{.kind = DecodingStep::Kind::kByteLevel}};
  return spec;
}

inline bool HasMarkInside(const std::string& text) {
  const std::string mark = "\xE2\x96\x81";
  size_t at = 0;
  while (text.compare(at, mark.size(), mark) == 0) at += mark.size();
  return text.find(mark, at) != std::string::npos;
}

// As SentencePiece makes them: characters, blank marks among them, and bytes for all others. A
// blank goes before a text. No token has a mark after something else, unless `marks_inside`.
inline TokenizerSpec RandomSentencePieceSpec(int num_merges, bool marks_inside, Random* random) {
  TokenizerSpec spec;
  spec.byte_level = false;
  spec.tokens = {"<unk>", "<s>", "</s>"};
  spec.unknown = 0;
  for (int byte = 0; byte < 256; ++byte) {
    spec.byte_tokens.push_back(static_cast<int32_t>(spec.tokens.size()));
    spec.tokens.push_back("<byte" + std::to_string(byte) + ">");
  }
  for (const char* c : {"\xE2\x96\x81", "a", "b", "c", ".", "\xC3\xA9"}) spec.tokens.push_back(c);
  AddRandomMerges(num_merges, random, &spec, [&](const std::string& text) {
    return text[0] != '<' && (marks_inside || !HasMarkInside(text));
  });
  spec.normalizers = {
      {.kind = Normalizer::Kind::kPrepend, .content = "\xE2\x96\x81"},
      {.kind = Normalizer::Kind::kReplace, .pattern = " ", .content = "\xE2\x96\x81"}};
  spec.decoders = {
      {.kind = DecodingStep::Kind::kReplace, .pattern = "\xE2\x96\x81", .content = " "},
      {.kind = DecodingStep::Kind::kByteFallback},
      {.kind = DecodingStep::Kind::kFuse},
      {.kind = DecodingStep::Kind::kStrip, .content = " ", .start = 1}};
  return spec;
}

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_RANDOM_SPEC_H_
