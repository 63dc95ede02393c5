#include "data/tokenizer/formats/sentencepiece_reader.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/tokenizer/formats/expand_merges.h"
#include "data/tokenizer/formats/json_fields.h"
#include "data/tokenizer/formats/protobuf_fields.h"

namespace strake {
namespace {

constexpr char kBlank[] = "\xe2\x96\x81";  // U+2581, which stands for a blank in pieces

enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string text = {};
  float score = 0;
  PieceType type = PieceType::kNormal;
};

// Defaults are those of SentencePiece's message definitions.
struct Model {
  std::vector<Piece> pieces = {};
  // Of the trainer's settings.
  uint64_t model_type = 1;
  bool suffix_blank = false, byte_fallback = false;
  std::string unknown_text = " \xe2\x81\x87 ", bos_piece = "<s>", eos_piece = "</s>";
  // Of the normalizer's settings.
  std::string chars_map = {}, denormalizer_map = {};
  bool dummy_prefix = true, remove_extra_blanks = true, escape_blanks = true;
};

absl::Status ReadPiece(absl::string_view bytes, size_t offset, Model* model) {
  Piece piece;
  ProtobufFields fields(bytes, offset);
  uint64_t type = 1;
  while (fields.Next()) {
    if (fields.number() == 1) piece.text = std::string(fields.bytes());
    if (fields.number() == 2) piece.score = fields.single();
    if (fields.number() == 3) type = fields.integer();
  }
  STRAKE_RETURN_IF_ERROR(fields.status());
  const size_t index = model->pieces.size();
  const auto error = [&](absl::string_view reason) {
    return absl::InvalidArgumentError(
        absl::StrCat("piece ", index, ", ", QuoteText(piece.text), ", ", reason));
  };
  if (index >= size_t{kMaxVocabSize}) return error("is one too many");
  if (type < 1 || type > 6)
    return error(absl::StrCat("has the type ", type, ", which is not known"));
  if (piece.text.empty()) return error("is empty");
  if (!IsUtf8(piece.text)) return error("is not UTF-8");
  if (std::isnan(piece.score)) return error("has a score that is not a number");
  piece.type = static_cast<PieceType>(type);
  model->pieces.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status ReadTrainer(absl::string_view bytes, size_t offset, Model* model) {
  ProtobufFields fields(bytes, offset);
  while (fields.Next()) {
    if (fields.number() == 3) model->model_type = fields.integer();
    if (fields.number() == 24) model->suffix_blank = fields.integer() != 0;
    if (fields.number() == 35) model->byte_fallback = fields.integer() != 0;
    if (fields.number() == 44) model->unknown_text = std::string(fields.bytes());
    if (fields.number() == 46) model->bos_piece = std::string(fields.bytes());
    if (fields.number() == 47) model->eos_piece = std::string(fields.bytes());
  }
  return fields.status();
}

absl::Status ReadNormalizer(absl::string_view bytes, size_t offset, Model* model) {
  ProtobufFields fields(bytes, offset);
  while (fields.Next()) {
    if (fields.number() == 2) model->chars_map = std::string(fields.bytes());
    if (fields.number() == 3) model->dummy_prefix = fields.integer() != 0;
    if (fields.number() == 4) model->remove_extra_blanks = fields.integer() != 0;
    if (fields.number() == 5) model->escape_blanks = fields.integer() != 0;
  }
  return fields.status();
}

absl::Status ReadDenormalizer(absl::string_view bytes, size_t offset, Model* model) {
  ProtobufFields fields(bytes, offset);
  while (fields.Next()) {
    if (fields.number() == 2) model->denormalizer_map = std::string(fields.bytes());
  }
  return fields.status();
}

absl::StatusOr<Model> ReadModel(absl::string_view bytes) {
  Model model;
  ProtobufFields fields(bytes, 0);
  while (fields.Next()) {
    absl::Status (*read)(absl::string_view, size_t, Model*) = nullptr;
    if (fields.number() == 1) read = ReadPiece;
    if (fields.number() == 2) read = ReadTrainer;
    if (fields.number() == 3) read = ReadNormalizer;
    if (fields.number() == 5) read = ReadDenormalizer;
    if (read != nullptr) {
      STRAKE_RETURN_IF_ERROR(read(fields.bytes(), fields.bytes_offset(), &model));
    }
  }
  STRAKE_RETURN_IF_ERROR(fields.status());
  return model;
}

absl::Status RefuseOthers(const Model& model) {
  if (model.pieces.empty()) {
    return absl::InvalidArgumentError("has no pieces: it is no SentencePiece model");
  }
  if (model.model_type != 2) {
    static const char* const kNames[] = {"", "unigram", "", "word", "character"};
    return absl::InvalidArgumentError(absl::StrCat(
        "is a ", model.model_type < 5 ? kNames[model.model_type] : absl::StrCat(model.model_type),
        " model; Strake reads BPE models alone"));
  }
  if (model.suffix_blank) {
    return absl::InvalidArgumentError("has treat_whitespace_as_suffix, which Strake does not have");
  }
  if (!model.denormalizer_map.empty()) {
    return absl::InvalidArgumentError("has a denormalizer, which Strake does not have");
  }
  return absl::OkStatus();
}

// SentencePiece joins any two neighbours whose text is a piece. All of them are pieces themselves
// if each character of the pieces is one.
absl::Status CheckPieces(const Model& model) {
  absl::flat_hash_set<absl::string_view> texts, merged;
  for (const Piece& piece : model.pieces) {
    if (!texts.insert(piece.text).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("has the piece ", QuoteText(piece.text), " twice"));
    }
    if (piece.type == PieceType::kUnused) {
      return absl::InvalidArgumentError(absl::StrCat("has the unused piece ", QuoteText(piece.text),
                                                     "; Strake knows no unused pieces"));
    }
    if (piece.type == PieceType::kNormal) merged.insert(piece.text);
  }
  for (const Piece& piece : model.pieces) {
    if (piece.type != PieceType::kNormal) continue;
    for (absl::string_view rest = piece.text; !rest.empty();) {
      const absl::string_view character = rest.substr(0, CharBytes(rest));
      rest.remove_prefix(character.size());
      if (merged.contains(character)) continue;
      return absl::InvalidArgumentError(absl::StrCat("has the piece ", QuoteText(piece.text),
                                                     ", but no piece ", QuoteText(character),
                                                     ", of which that is made"));
    }
  }
  return absl::OkStatus();
}

// 0 for the highest score; equal scores have equal ranks. -1 for pieces that are never joined.
std::vector<int64_t> Ranks(const Model& model) {
  std::vector<size_t> order;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == PieceType::kNormal) order.push_back(id);
  }
  const auto score = [&](size_t id) { return model.pieces[id].score; };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score(a) > score(b); });
  std::vector<int64_t> ranks(model.pieces.size(), -1);
  for (size_t i = 0; i < order.size(); ++i) {
    const bool tie = i > 0 && score(order[i]) == score(order[i - 1]);
    ranks[order[i]] = tie ? ranks[order[i - 1]] : static_cast<int64_t>(i);
  }
  return ranks;
}

// The tokens <0x00> to <0xFF>.
absl::StatusOr<std::vector<int32_t>> ByteTokens(const Model& model) {
  std::vector<int32_t> result(256, -1);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != PieceType::kByte) continue;
    int byte = 0;
    while (byte < 256 && piece.text != absl::StrFormat("<0x%02X>", byte)) ++byte;
    if (byte == 256) {
      return absl::InvalidArgumentError(
          absl::StrCat("has the piece ", QuoteText(piece.text), " for a byte, which is none"));
    }
    result[static_cast<size_t>(byte)] = static_cast<int32_t>(id);
  }
  const auto missing = std::find(result.begin(), result.end(), -1);
  if (missing == result.end()) return result;
  return absl::InvalidArgumentError(
      absl::StrFormat("has byte_fallback, but no piece <0x%02X>", missing - result.begin()));
}

void AddAddedTokens(const Model& model, TokenizerSpec* spec) {
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    AddedToken token{id, piece.text};
    token.special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    token.normalized = token.verbatim = piece.type == PieceType::kUserDefined;
    if (token.special || token.normalized) spec->added.push_back(std::move(token));
    if (piece.type == PieceType::kUnknown) spec->unknown = id;
    if (piece.type != PieceType::kControl) continue;
    if (piece.text == model.bos_piece) spec->begin_of_text = id;
    if (piece.text == model.eos_piece) spec->end_of_text = id;
  }
  // SentencePiece leaves it to its caller; the decoder-only models that ship such files all do it.
  if (spec->begin_of_text) spec->prefix = {*spec->begin_of_text};
}

void AddTextSteps(const Model& model, TokenizerSpec* spec) {
  using Kind = Normalizer::Kind;
  const std::string blank = model.escape_blanks ? kBlank : " ";
  if (!model.chars_map.empty()) spec->normalizers.push_back({Kind::kCharsMap, "", model.chars_map});
  if (model.remove_extra_blanks) {
    // Blanks are escaped first: one that was written so is taken off the end as well.
    spec->normalizers.push_back({Kind::kCollapseBlanks, "", model.escape_blanks ? kBlank : ""});
  }
  if (model.dummy_prefix) spec->normalizers.push_back({Kind::kPrepend, "", blank});
  if (model.escape_blanks) spec->normalizers.push_back({Kind::kReplace, " ", blank});
  spec->decoders.push_back({DecodingStep::Kind::kReplace, kBlank, " "});
  spec->decoders.push_back({DecodingStep::Kind::kByteFallback});
  spec->decoders.push_back({DecodingStep::Kind::kFuse});
  if (model.dummy_prefix || model.remove_extra_blanks) {
    DecodingStep strip{DecodingStep::Kind::kStrip, "", " "};
    strip.start = 1;
    spec->decoders.push_back(std::move(strip));
  }
}

absl::StatusOr<TokenizerSpec> SpecOf(Model model) {
  STRAKE_RETURN_IF_ERROR(RefuseOthers(model));
  STRAKE_RETURN_IF_ERROR(CheckPieces(model));
  TokenizerSpec spec;
  spec.byte_level = false;
  spec.fuse_unknown = true;
  spec.unknown_text = model.unknown_text;
  if (model.byte_fallback) {
    STRAKE_ASSIGN_OR_RETURN(spec.byte_tokens, ByteTokens(model));
  }
  AddAddedTokens(model, &spec);
  AddTextSteps(model, &spec);
  const std::vector<int64_t> ranks = Ranks(model);
  for (Piece& piece : model.pieces) spec.tokens.push_back(std::move(piece.text));
  STRAKE_ASSIGN_OR_RETURN(spec.merges, ExpandMerges(spec.tokens, ranks));
  return spec;
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseSentencePieceModel(absl::string_view bytes,
                                                      const std::string& path) {
  absl::StatusOr<Model> model = ReadModel(bytes);
  absl::StatusOr<TokenizerSpec> spec =
      model.ok() ? SpecOf(*std::move(model)) : absl::StatusOr<TokenizerSpec>(model.status());
  return NameError(path, std::move(spec));
}

}  // namespace strake
