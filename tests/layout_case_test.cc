#include "tests/layout_case.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/transformer.h"

namespace strake::testing {
namespace {

using Values = std::vector<std::string>;

// Everything that varies.
const std::vector<Values> kAllValues = {
    {"gpt2", "llama", "gemma2", "gemma3_text", "gpt_bigcode", "gpt_neox", "granite", "mistral",
     "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"},
    {"tied", "untied"},
    {"kv 24", "kv 12", "kv 2", "kv 1"},
    {"vocab 48", "vocab 47", "vocab 50257"},
    {"tp 1", "tp 2", "tp 3", "tp 4", "tp 8"},
    {"dp 1", "dp 2", "dp 3", "dp 4"},
    {"sp 0", "sp 1"},
    {"zero 0", "zero 1", "zero 2"},
    {"micro 1", "micro 2", "micro 3"},
    {"concat", "mask", "pad"},
    {"threads 1", "threads 2"},
    {"buckets 4000", absl::StrCat("buckets ", 25 << 20)},
    {"f32", "f64"},
    {"reduced in f32", "reduced in bf16"},
    {"context 1 ring", "context 2 ring", "context 2 all_gather", "context 3 ring",
     "context 3 all_gather"},
    {"stages 1", "stages 2 1f1b", "stages 2 zero_bubble", "stages 2 gpipe", "stages 2 interleaved"},
};

constexpr const char* kDocumentNames[] = {"concat", "mask", "pad"};

// Head counts that ranks can neither divide nor replicate; chunks of fewer micro-batches than
// stages.
const std::set<std::pair<std::string, std::string>> kImpossible = {
    {"kv 12", "tp 8"},
    {"kv 2", "tp 3"},
    {"f64", "reduced in bf16"},
    {"micro 1", "stages 2 interleaved"}};

// Families without grouped heads, and the largest vocabulary beside all but two of them.
bool Possible(const std::string& a, const std::string& b) {
  if ((a == "gpt2" || a == "gpt_neox") && b.starts_with("kv ")) return b == "kv 24";
  // Of fewer ranks on the other axes.
  if (b.starts_with("context ") && (a == "tp 8" || a == "dp 3" || a == "dp 4")) {
    return b == "context 1 ring";
  }
  if (b.starts_with("context 3") && a == "tp 3") return false;
  const Values& families = kAllValues[0];
  const bool family = std::count(families.begin(), families.end(), a) > 0;
  if (family && b == "vocab 50257") return a == "gpt2" || a == "llama";
  return kImpossible.count({a, b}) == 0;
}

Values ValuesOf(const LayoutCase& c) {
  return {
      c.model,
      c.tied ? "tied" : "untied",
      absl::StrCat("kv ", c.num_kv_heads),
      absl::StrCat("vocab ", c.vocab_size),
      absl::StrCat("tp ", c.tp),
      absl::StrCat("dp ", c.dp),
      absl::StrCat("sp ", c.sequence_parallel),
      absl::StrCat("zero ", c.zero),
      absl::StrCat("micro ", c.num_micro_batches),
      kDocumentNames[static_cast<int>(c.documents)],
      absl::StrCat("threads ", c.num_threads),
      absl::StrCat("buckets ", c.bucket_bytes),
      DTypeName(c.dtype),
      c.reduce_in_bf16 ? "reduced in bf16" : "reduced in f32",
      absl::StrCat("context ", c.cp, " ", ContextCommName(c.cp_comm)),
      c.pp == 1 ? "stages 1" : absl::StrCat("stages ", c.pp, " ", PipelineKindName(c.schedule))};
}

TEST(LayoutCaseTest, EveryTwoValuesMeet) {
  std::set<std::pair<std::string, std::string>> expected, actual;
  for (size_t a = 0; a < kAllValues.size(); ++a) {
    for (size_t b = a + 1; b < kAllValues.size(); ++b) {
      for (const std::string& x : kAllValues[a]) {
        for (const std::string& y : kAllValues[b]) {
          if (Possible(x, y)) expected.insert({x, y});
        }
      }
      for (const LayoutCase& layout : CoveringLayoutCases()) {
        const Values values = ValuesOf(layout);
        actual.insert({values[a], values[b]});
      }
    }
  }
  EXPECT_EQ(actual, expected);
}

TEST(LayoutCaseTest, ModelsAndLayoutsAreValid) {
  for (const LayoutCase& layout : CoveringLayoutCases()) {
    EXPECT_TRUE(ValidateModelConfig(layout.Model()).ok()) << layout.ToString();
    EXPECT_TRUE(CheckTensorParallel(layout.Model(), layout.tp).ok()) << layout.ToString();
  }
}

}  // namespace
}  // namespace strake::testing
