// Many kinds of model directory: each loads to the logits of transformers, or is refused.
//
// goldens/hf_directories/kinds.json lists the kinds as edits of a tiny model beside it, and
// outcomes.json what transformers made of them (goldens/make_hf_directories.py). A kind's keys:
//
//   name       what it is
//   base       the model that is edited: gpt2 or llama
//   config     a merge patch of config.json
//   null       keys of config.json that are set to null
//   tensors    edits, in order, each of a name: add {shape, dtype}, remove, copy {to},
//              rename {to}, negate, reshape {shape}; or of a part of names: replace {to},
//              cast {dtype}
//   metadata   of the safetensors file
//   file       the weights' file, if it is not model.safetensors
//   link       the file that the weights' file is a link to
//   shards     in place of one file: {file, names, negated}; names are all that is left by default
//   index      a merge patch of the shards' index
//   beside     one more file, of the same tensors, negated
//   files      the texts of more files
//   refuses    a part of the error here; a kind without it loads
//   loads_as   the kind with the same logits, where transformers has none; "" for no kind
//
// docs/hugging_face.md shows them as a table, which the test prints where it has changed.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/safetensors.h"
#include "nlohmann/json.hpp"
#include "tests/checkpoint_logits.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using testing::ReadFile;
using testing::WriteFile;
using Json = nlohmann::json;

std::string Runfile(const std::string& name) {
  const auto path = RunfilePath(name);
  CHECK(path.ok()) << path.status();
  return *path;
}

std::string Golden(const std::string& name) {
  return Runfile("tests/goldens/hf_directories/" + name);
}

const Json& Kinds() {
  static const auto* kinds = new Json(Json::parse(ReadFile(Golden("kinds.json"))));
  return *kinds;
}

const Json& Outcomes() {
  static const auto* outcomes = new Json(Json::parse(ReadFile(Golden("outcomes.json"))));
  return *outcomes;
}

const Json& OutcomeOf(const std::string& kind) { return Outcomes().at("outcomes").at(kind); }

// The kind whose outcome holds the logits of this one, or "".
std::string KindWithLogits(const Json& kind) {
  const std::string name = kind.value("loads_as", kind.at("name").get<std::string>());
  if (name.empty() || !OutcomeOf(name).contains("logits")) return "";
  const Json& logits = OutcomeOf(name).at("logits");
  return logits.is_string() ? logits.get<std::string>() : name;
}

struct FileTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using FileTensors = std::map<std::string, FileTensor>;

// A value that the dtype represents exactly. Those of dtypes that are not read are zeros.
std::string Encoded(float value, const std::string& dtype) {
  const auto bytes = [](auto number) {
    return std::string(reinterpret_cast<const char*>(&number), sizeof(number));
  };
  if (dtype == "F64") return bytes(static_cast<double>(value));
  if (dtype == "F32") return bytes(value);
  if (dtype == "BF16") return bytes(Bf16(value).bits);
  if (dtype == "I32") return bytes(int32_t{0});
  if (dtype != "F16") return bytes(int8_t{0});
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits << 1 >> 1;
  return bytes(static_cast<uint16_t>(sign | (value == 0 ? 0 : (magnitude >> 13) - (112 << 10))));
}

void WriteTensors(const std::string& path, const FileTensors& tensors, const Json& metadata) {
  Json header = Json::object();
  if (!metadata.is_null()) header["__metadata__"] = metadata;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    for (const float value : tensor.values) data += Encoded(value, tensor.dtype);
    header[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  WriteFile(path, std::string(reinterpret_cast<const char*>(&length), 8) + text + data);
}

FileTensors ReadTensors(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  CHECK(file.ok()) << file.status();
  FileTensors tensors;
  for (const SafetensorsEntry& entry : file->entries()) {
    FileTensor& tensor = tensors[entry.name];
    tensor = {"F32", {entry.shape.begin(), entry.shape.end()}, {}};
    tensor.values.resize(NumElements(entry.shape));
    CHECK(file->ReadF32(entry, 0, tensor.values.size(), tensor.values.data()).ok());
  }
  return tensors;
}

FileTensor Sixteenths(const Json& edit) {
  FileTensor tensor = {edit.value("dtype", "F32"), edit.at("shape"), {}};
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  for (int64_t i = 0; i < count; ++i) {
    tensor.values.push_back(static_cast<float>((7 * i + i * i / 5) % 15 - 7) / 16);
  }
  return tensor;
}

void Negate(FileTensor* tensor) {
  for (float& value : tensor->values) value = -value;
}

// The tensors whose names contain `text`.
std::vector<std::string> NamesWith(const FileTensors& tensors, const std::string& text) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (absl::StrContains(name, text)) names.push_back(name);
  }
  return names;
}

void EditTensors(const Json& edit, FileTensors* tensors) {
  FileTensors& all = *tensors;
  if (edit.contains("add")) all[edit.at("add")] = Sixteenths(edit);
  if (edit.contains("remove")) CHECK_EQ(all.erase(edit.at("remove")), 1u) << edit;
  if (edit.contains("copy")) all[edit.at("to")] = all.at(edit.at("copy"));
  if (edit.contains("rename")) {
    all[edit.at("to")] = all.at(edit.at("rename"));
    all.erase(edit.at("rename"));
  }
  if (edit.contains("replace")) {
    const std::string from = edit.at("replace"), to = edit.at("to");
    for (const std::string& name : NamesWith(all, from)) {
      auto node = all.extract(name);
      node.key().replace(name.find(from), from.size(), to);
      all.insert(std::move(node));
    }
  }
  if (edit.contains("negate")) Negate(&all.at(edit.at("negate")));
  if (edit.contains("cast")) {
    for (const std::string& name : NamesWith(all, edit.at("cast"))) {
      all.at(name).dtype = edit.at("dtype");
    }
  }
  if (edit.contains("reshape")) {
    all.at(edit.at("reshape")).shape = edit.at("shape").get<std::vector<int64_t>>();
  }
}

void WriteShards(const std::string& folder, const Json& kind, const FileTensors& tensors,
                 const Json& metadata) {
  Json weight_map = Json::object();
  for (const Json& shard : kind.at("shards")) {
    std::vector<std::string> names = shard.value("names", std::vector<std::string>());
    if (!shard.contains("names")) {
      for (const auto& [name, tensor] : tensors) {
        if (!weight_map.contains(name)) names.push_back(name);
      }
    }
    FileTensors own;
    for (const std::string& name : names) {
      own[name] = tensors.at(name);
      if (!weight_map.contains(name)) weight_map[name] = shard.at("file");
    }
    for (const std::string name : shard.value("negated", Json::array())) Negate(&own.at(name));
    WriteTensors(absl::StrCat(folder, "/", shard.at("file").get<std::string>()), own, metadata);
  }
  Json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}};
  if (kind.contains("index")) index.merge_patch(kind.at("index"));
  WriteFile(folder + "/model.safetensors.index.json", index.dump());
}

void MakeDirectory(const std::string& folder, const Json& kind) {
  const std::string base = Golden(kind.at("base"));
  Json config = Json::parse(ReadFile(base + "/config.json"));
  if (kind.contains("config")) config.merge_patch(kind.at("config"));
  for (const std::string key : kind.value("null", Json::array())) config[key] = nullptr;
  WriteFile(folder + "/config.json", config.dump());

  FileTensors tensors = ReadTensors(base + "/model.safetensors");
  for (const Json& edit : kind.value("tensors", Json::array())) EditTensors(edit, &tensors);
  const Json metadata = kind.contains("metadata") ? kind.at("metadata") : Json{{"format", "pt"}};
  const std::string path = folder + "/" + kind.value("file", "model.safetensors");
  if (kind.contains("shards")) {
    WriteShards(folder, kind, tensors, metadata);
  } else if (absl::EndsWith(path, ".bin")) {
    WriteFile(path, "what torch.save() writes");
  } else {
    const std::string link = kind.value("link", "");
    WriteTensors(link.empty() ? path : folder + "/" + link, tensors, metadata);
    if (!link.empty()) std::filesystem::create_symlink(link, path);
  }
  if (kind.contains("beside")) {
    for (auto& [name, tensor] : tensors) Negate(&tensor);
    WriteTensors(folder + "/" + kind.at("beside").get<std::string>(), tensors, metadata);
  }
  const Json files = kind.value("files", Json::object());
  for (const auto& [name, text] : files.items()) {
    WriteFile(folder + "/" + name, text);
  }
}

// The logits after the last token.
absl::StatusOr<std::vector<float>> Logits(const std::string& directory,
                                          const std::vector<int32_t>& tokens) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<float> all,
                          testing::CheckpointLogits(directory, tokens));
  return std::vector<float>(all.end() - all.size() / tokens.size(), all.end());
}

// max|a - b| / max|b|; infinite where a is not a number.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    error = difference <= std::numeric_limits<double>::max() ? std::max(error, difference)
                                                             : difference + INFINITY;
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  CHECK_GT(largest, 0);
  return error / largest;
}

// Both sides round in f32, in another order. A logit is at the end of a chain of about 50 ops (2
// layers of 11, the embedding and the head, on each side), each with sums of at most 32 terms,
// whose errors add like those of a random walk: 50 * sqrt(32) roundings of half an epsilon.
const double kTolerance = 50 * std::sqrt(32.0) * std::numeric_limits<float>::epsilon() / 2;

TEST(HfDirectoriesTest, EachKindLoadsAsWithTransformersOrIsRefused) {
  const std::vector<int32_t> tokens = Outcomes().at("tokens");
  for (const Json& kind : Kinds()) {
    const std::string name = kind.at("name");
    SCOPED_TRACE(name);
    const testing::TempDirectory directory;
    MakeDirectory(directory.path(), kind);
    const auto logits = Logits(directory.path(), tokens);
    if (kind.contains("refuses")) {
      ASSERT_FALSE(logits.ok());
      EXPECT_THAT(absl::StrReplaceAll(logits.status().message(), {{directory.path() + "/", ""}}),
                  HasSubstr(kind.at("refuses").get<std::string>()));
      EXPECT_THAT(std::string(logits.status().message()), HasSubstr(directory.path()));
      continue;
    }
    ASSERT_TRUE(logits.ok()) << logits.status();
    const std::string same = KindWithLogits(kind);
    // Only a kind that says so may have no logits to compare with.
    ASSERT_TRUE(!same.empty() || kind.contains("loads_as"));
    if (same.empty()) continue;
    const std::vector<float> expected = OutcomeOf(same).at("logits");
    EXPECT_LE(RelativeError(*logits, expected), kTolerance);
  }
}

// Otherwise a kind that is misread could pass.
TEST(HfDirectoriesTest, KindsWithOtherLogitsDifferByMoreThanRounding) {
  std::map<std::string, std::vector<float>> logits;
  for (const Json& kind : Kinds()) {
    const std::string name = kind.at("name");
    if (KindWithLogits(kind) == name) OutcomeOf(name).at("logits").get_to(logits[name]);
  }
  EXPECT_GT(logits.size(), 20u);
  for (const auto& [a, a_logits] : logits) {
    for (const auto& [b, b_logits] : logits) {
      if (a == b) continue;
      const double error = RelativeError(a_logits, b_logits);
      // One function, computed in two ways.
      const bool gelu = absl::StrContains(a + b, "gelu_");
      EXPECT_TRUE(error > 10 * kTolerance || (gelu && error < kTolerance)) << a << "; " << b;
    }
  }
}

// The row of docs/hugging_face.md.
std::string TableRow(const Json& kind) {
  const Json& outcome = OutcomeOf(kind.at("name"));
  std::string theirs = "loads";
  if (outcome.contains("raises")) {
    theirs = "refuses";
  } else if (outcome.contains("missing")) {
    theirs = "loads random values";
  } else if (outcome.contains("unexpected")) {
    theirs = "loads, and warns";
  }
  const std::string ours = kind.contains("refuses")
                               ? absl::StrCat("`", kind.at("refuses").get<std::string>(), "`")
                               : "loads";
  return absl::StrCat("| ", kind.at("name").get<std::string>(), " | ",
                      kind.at("base").get<std::string>(), " | ", theirs, " | ", ours, " |\n");
}

TEST(HfDirectoriesTest, TheTableOfTheDocumentIsThis) {
  std::string table;
  for (const Json& kind : Kinds()) table += TableRow(kind);
  EXPECT_THAT(ReadFile(Runfile("docs/hugging_face.md")), HasSubstr(table)) << "the table is:\n"
                                                                           << table;
}

}  // namespace
}  // namespace strake
