#include "train/export/gguf_tokenizer_keys.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

constexpr char kPrefix[] = "tokenizer.ggml.";

// Adds a token's id, if there is a token.
void AddToken(const char* role, const std::optional<int32_t>& token, GgufMetadata* metadata) {
  if (token.has_value()) metadata->AddUint32(absl::StrCat(kPrefix, role, "_token_id"), *token);
}

void AddEnds(const GgufVocabulary& vocabulary, const std::vector<int32_t>& end_tokens,
             GgufMetadata* metadata, std::vector<std::string>* notices) {
  std::vector<int32_t> ends;
  const auto add = [&](int32_t token) {
    if (std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
  };
  if (vocabulary.end_of_text.has_value()) add(*vocabulary.end_of_text);
  for (const int32_t token : end_tokens) add(token);
  constexpr const char* kRoles[] = {"eos", "eot", "eom"};
  for (size_t i = 0; i < std::size(kRoles) && i < ends.size(); ++i) {
    AddToken(kRoles[i], ends[i], metadata);
  }
  if (ends.empty()) {
    notices->push_back("nothing says which token ends a text; readers of GGUF assume one");
  } else if (ends.size() > std::size(kRoles)) {
    notices->push_back(absl::StrCat("GGUF has places for ", std::size(kRoles),
                                    " tokens that end a text; ", ends.size() - std::size(kRoles),
                                    " more are left out"));
  }
}

}  // namespace

void AddGgufTokenizerKeys(const GgufVocabulary& v, const std::vector<int32_t>& end_tokens,
                          GgufMetadata* metadata, std::vector<std::string>* notices) {
  const auto key = [](const char* name) { return absl::StrCat(kPrefix, name); };
  metadata->AddString(key("model"), v.model);
  metadata->AddString(key("pre"), v.pre);
  metadata->AddStrings(key("tokens"), v.tokens);
  std::vector<int32_t> types;
  for (const GgufTokenType type : v.types) types.push_back(static_cast<int32_t>(type));
  metadata->AddInt32s(key("token_type"), types);
  if (v.scores.empty()) {
    metadata->AddStrings(key("merges"), v.merges);
  } else {
    metadata->AddFloat32s(key("scores"), v.scores);
    metadata->AddBool(key("add_space_prefix"), v.add_space_prefix);
  }
  AddToken("bos", v.begin_of_text, metadata);
  AddToken("unknown", v.unknown, metadata);
  AddEnds(v, end_tokens, metadata, notices);
  metadata->AddBool(key("add_bos_token"), v.add_begin_of_text);
  metadata->AddBool(key("add_eos_token"), v.add_end_of_text);
  notices->insert(notices->end(), v.notices.begin(), v.notices.end());
}

void AddNoGgufTokenizer(GgufMetadata* metadata) {
  metadata->AddString(absl::StrCat(kPrefix, "model"), "none");
}

}  // namespace strake
