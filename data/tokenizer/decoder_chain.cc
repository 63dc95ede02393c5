#include "data/tokenizer/decoder_chain.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

using Kind = DecodingStep::Kind;

bool IsOneChar(absl::string_view text) {
  const Utf8Char c = DecodeUtf8(text.data(), text.data() + text.size());
  return c.num_bytes > 0 && c.num_bytes == text.size();
}

std::string Replaced(const std::string& text, const std::string& pattern,
                     const std::string& content) {
  if (pattern.empty()) return text;
  return absl::StrReplaceAll(text, {{pattern, content}});
}

std::string Trimmed(absl::string_view text, const DecodingStep& decoder) {
  const std::string& content = decoder.content;
  if (content.empty()) return std::string(text);
  for (int64_t i = 0; i < decoder.start && text.substr(0, content.size()) == content; ++i) {
    text.remove_prefix(content.size());
  }
  const auto ends = [&] {
    return text.size() >= content.size() && text.substr(text.size() - content.size()) == content;
  };
  for (int64_t i = 0; i < decoder.stop && ends(); ++i) text.remove_suffix(content.size());
  return std::string(text);
}

// The byte that each token stands for, or -1.
std::vector<int> BytesOfTokens(const TokenizerSpec& spec) {
  std::vector<int> bytes(spec.tokens.size(), -1);
  for (int byte = 0; byte < spec.byte_tokens.size(); ++byte) bytes[spec.byte_tokens[byte]] = byte;
  return bytes;
}

// What decoders before kFuse make of a token.
std::string TokenText(std::string text, int byte, bool is_first,
                      const std::vector<DecodingStep>& decoders) {
  for (const DecodingStep& decoder : decoders) {
    if (decoder.kind == Kind::kByteFallback && byte >= 0) {
      text.assign(1, static_cast<char>(byte));
    } else if (decoder.kind == Kind::kReplace) {
      text = Replaced(text, decoder.pattern, decoder.content);
    } else if (decoder.kind == Kind::kStrip) {
      text = Trimmed(text, decoder);
    } else if (decoder.kind == Kind::kMetaspace) {
      text = Replaced(text, decoder.pattern, is_first && decoder.drop_first ? "" : " ");
    }
  }
  return text;
}

// The decoders that work on single tokens, and what is left to do with the whole text.
struct Stages {
  std::vector<DecodingStep> of_tokens = {};
  DecoderChain::Trim begin = {}, end = {};
};

absl::Status AddAfterFuse(const DecodingStep& decoder, Stages* stages) {
  if (decoder.kind == Kind::kStrip) {
    if (stages->begin.count > 0 || stages->end.count > 0) {
      return absl::InvalidArgumentError("more than one Strip after Fuse among the decoders");
    }
    if (decoder.content.empty()) return absl::OkStatus();
    stages->begin = {decoder.content, decoder.start};
    stages->end = {decoder.content, decoder.stop};
    return absl::OkStatus();
  }
  // A single character cannot lie across two tokens, so it does not matter when it is replaced.
  if (decoder.kind == Kind::kReplace && IsOneChar(decoder.pattern) && stages->begin.count == 0 &&
      stages->end.count == 0) {
    stages->of_tokens.push_back(decoder);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("among the decoders, only Strip, or Replace of one character, may follow Fuse; "
                   "Replace has \"",
                   decoder.pattern, "\""));
}

absl::StatusOr<Stages> MakeStages(const std::vector<DecodingStep>& decoders) {
  Stages stages;
  bool is_fused = false;
  for (const DecodingStep& decoder : decoders) {
    if (decoder.kind == Kind::kByteLevel) continue;
    if (decoder.kind == Kind::kFuse) {
      is_fused = true;
    } else if (is_fused) {
      STRAKE_RETURN_IF_ERROR(AddAfterFuse(decoder, &stages));
    } else {
      stages.of_tokens.push_back(decoder);
    }
  }
  return stages;
}

}  // namespace

absl::StatusOr<DecoderChain> DecoderChain::Create(const TokenizerSpec& spec) {
  STRAKE_ASSIGN_OR_RETURN(const Stages stages, MakeStages(spec.decoders));
  DecoderChain chain;
  chain.trim_begin_ = stages.begin;
  chain.trim_end_ = stages.end;
  const std::vector<int> bytes = BytesOfTokens(spec);
  const auto make = [&](bool is_first, Texts* texts) {
    for (int32_t id = 0; id < spec.tokens.size(); ++id) {
      const bool is_unknown = id == spec.unknown && !spec.unknown_text.empty();
      texts->bytes += is_unknown
                          ? spec.unknown_text
                          : TokenText(spec.tokens[id], bytes[id], is_first, stages.of_tokens);
      texts->ends.push_back(texts->bytes.size());
    }
  };
  make(false, &chain.texts_);
  const bool first_differs =
      std::any_of(stages.of_tokens.begin(), stages.of_tokens.end(),
                  [](const DecodingStep& decoder) { return decoder.drop_first; });
  if (first_differs) make(true, &chain.first_texts_);
  return chain;
}

absl::string_view DecoderChain::Texts::operator[](int32_t token) const {
  const size_t begin = token == 0 ? 0 : ends[token - 1];
  return absl::string_view(bytes).substr(begin, ends[token] - begin);
}

absl::string_view DecoderChain::Text(int32_t token, bool is_first) const {
  if (token < 0 || token >= texts_.ends.size()) return {};
  return is_first && !first_texts_.ends.empty() ? first_texts_[token] : texts_[token];
}

}  // namespace strake
