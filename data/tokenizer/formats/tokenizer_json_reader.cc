#include "data/tokenizer/formats/tokenizer_json_reader.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/added_tokens_json.h"
#include "data/tokenizer/formats/bpe_vocabulary.h"
#include "data/tokenizer/formats/json_fields.h"
#include "data/tokenizer/formats/tokenizer_json_components.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

absl::Status ReadMerges(const json& merges, const std::string& where, BpeVocabulary* vocabulary) {
  if (!merges.is_array()) return absl::InvalidArgumentError(where + " is not a list");
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const auto at = [&] { return absl::StrCat(where, "[", i, "]"); };
    absl::Status status;
    if (merge.is_string()) {
      status = vocabulary->AddMerge(merge.get_ref<const std::string&>(), "");
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      status = vocabulary->AddMerge(merge[0].get_ref<const std::string&>(),
                                    merge[1].get_ref<const std::string&>(), "");
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(at(), " is ", QuoteJson(merge), ", not two tokens"));
    }
    // Text that is seldom needed takes most of the time.
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(at(), status.message()));
  }
  return absl::OkStatus();
}

// Whatever would change the tokens of a text, and is not in TokenizerSpec.
void RefuseOptions(JsonFields* model) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = model->String(key, "");
    if (!affix.empty()) {
      model->Fail(absl::StrCat("has \"", key, "\": ", QuoteText(affix), ", where none is known"));
    }
  }
  const json* dropout = model->Find("dropout");
  if (dropout != nullptr && !(dropout->is_number() && dropout->get<double>() == 0)) {
    model->Fail(absl::StrCat("has \"dropout\": ", QuoteJson(*dropout),
                             ", by which a text's tokens are random"));
  }
}

// The tokens <0x00> to <0xFF>; none where the vocabulary has none of them.
absl::StatusOr<std::vector<int32_t>> ByteTokens(const BpeVocabulary& vocabulary,
                                                const std::string& where) {
  std::vector<int32_t> result;
  std::string missing;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = absl::StrFormat("<0x%02X>", byte);
    const auto token = vocabulary.Find(text);
    if (token) result.push_back(*token);
    if (!token) missing = text;
  }
  if (!result.empty() && !missing.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " has no token ", missing, ", which byte fallback needs"));
  }
  return result;
}

// A BPE model. Files of before 2020 lack the type.
absl::StatusOr<BpeVocabulary> ReadModel(const json& value, const std::string& where,
                                        TokenizerSpec* spec) {
  JsonFields model(value, where);
  const std::string type = model.String("type", "BPE");
  if (type != "BPE") {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is a ", type, " model; Strake reads BPE models alone"));
  }
  spec->whole_words = model.Bool("ignore_merges", false);
  spec->fuse_unknown = model.Bool("fuse_unk", false);
  const bool byte_fallback = model.Bool("byte_fallback", false);
  const std::string unknown = model.String("unk_token", "");
  RefuseOptions(&model);
  const json* vocab = model.Find("vocab");
  const json* merges = model.Find("merges");
  if (vocab == nullptr || merges == nullptr) model.Fail("lacks \"vocab\" or \"merges\"");
  STRAKE_RETURN_IF_ERROR(model.Finish());
  STRAKE_ASSIGN_OR_RETURN(BpeVocabulary vocabulary,
                          BpeVocabulary::Create(*vocab, where + ".vocab"));
  STRAKE_RETURN_IF_ERROR(ReadMerges(*merges, where + ".merges", &vocabulary));
  if (byte_fallback) {
    STRAKE_ASSIGN_OR_RETURN(spec->byte_tokens, ByteTokens(vocabulary, where + ".vocab"));
  }
  if (unknown.empty()) return vocabulary;
  spec->unknown = vocabulary.Find(unknown);
  if (spec->unknown) return vocabulary;
  return absl::InvalidArgumentError(absl::StrCat(where, " has \"unk_token\": ", QuoteText(unknown),
                                                 ", which is not in its vocabulary"));
}

absl::Status ReadAddedTokens(const json* list, const std::string& where,
                             BpeVocabulary* vocabulary) {
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return absl::InvalidArgumentError(where + " is not a list");
  for (size_t i = 0; i < list->size(); ++i) {
    const json& value = (*list)[i];
    const std::string at = absl::StrCat(where, "[", i, "]");
    int64_t id = -1;
    if (value.is_object()) id = JsonFields(value, at).Int("id", -1);
    STRAKE_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(value, id, at));
    STRAKE_RETURN_IF_ERROR(vocabulary->AddToken(std::move(token), at));
  }
  return absl::OkStatus();
}

const json& OrNull(const json* value) {
  static const json null;
  return value != nullptr ? *value : null;
}

absl::Status ReadComponents(JsonFields* file, TokenizerSpec* spec) {
  const auto where = [&](const char* key) { return absl::StrCat(file->where(), ": ", key); };
  const auto find = [&](const char* key) -> const json& { return OrNull(file->Find(key)); };
  STRAKE_RETURN_IF_ERROR(
      ReadNormalizer(find("normalizer"), where("normalizer"), &spec->normalizers));
  STRAKE_RETURN_IF_ERROR(
      ReadPreTokenizer(find("pre_tokenizer"), where("pre_tokenizer"), &spec->pre_tokenizers));
  STRAKE_RETURN_IF_ERROR(ReadPostProcessor(find("post_processor"), where("post_processor"), spec));
  return ReadDecoder(find("decoder"), where("decoder"), &spec->decoders);
}

bool IsByteLevel(const PreTokenizer& pre_tokenizer) {
  return pre_tokenizer.kind == PreTokenizer::Kind::kByteLevel;
}

// A ByteLevel decoder undoes what its pre-tokenizer does: alone it would take letters for bytes.
absl::Status CheckDecoders(const TokenizerSpec& spec, const std::string& path) {
  const bool decodes_bytes = std::any_of(
      spec.decoders.begin(), spec.decoders.end(),
      [](const DecodingStep& decoder) { return decoder.kind == DecodingStep::Kind::kByteLevel; });
  if (!decodes_bytes || spec.byte_level) return absl::OkStatus();
  return absl::InvalidArgumentError(path +
                                    ": decoder is ByteLevel, but pre_tokenizer has no ByteLevel");
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(const json& value, const std::string& path) {
  JsonFields file(value, path);
  // Padding and truncation are for batches of equal length. The version has been 1.0 ever since.
  file.Ignore({"padding", "truncation", "version"});
  const json* model = file.Find("model");
  const json* added = file.Find("added_tokens");
  if (model == nullptr) file.Fail("has no \"model\": it is no tokenizer of Hugging Face's");
  TokenizerSpec spec;
  STRAKE_RETURN_IF_ERROR(ReadComponents(&file, &spec));
  STRAKE_RETURN_IF_ERROR(file.Finish());
  spec.byte_level =
      std::any_of(spec.pre_tokenizers.begin(), spec.pre_tokenizers.end(), IsByteLevel);
  STRAKE_ASSIGN_OR_RETURN(BpeVocabulary vocabulary, ReadModel(*model, path + ": model", &spec));
  STRAKE_RETURN_IF_ERROR(ReadAddedTokens(added, path + ": added_tokens", &vocabulary));
  vocabulary.MoveTo(&spec);
  STRAKE_RETURN_IF_ERROR(CheckDecoders(spec, path));
  return spec;
}

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(absl::string_view text, const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const json value, ParseJson(text, path));
  return ReadTokenizerJson(value, path);
}

}  // namespace strake
