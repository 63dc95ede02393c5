#include "tests/layout_equality.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "models/families/family.h"
#include "models/layer_parameters.h"
#include "models/lora_modules.h"
#include "models/transformer.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/stage_models.h"

namespace strake::testing {
namespace {

// The definition: the number of tensor-parallel ranks that hold each element of a tensor.
class Holders {
 public:
  explicit Holders(const LayoutCase& layout) : config_(layout.Model()), layout_(layout) {}

  std::vector<int> Of(std::string name, const FullTensors::Entry& entry) const {
    std::vector<int> holders(entry.values.size(), 1);
    // The first and the last stage have it.
    if (layout_.pp > 1 && layout_.tied &&
        IsOneOf(name, {config_.family->tensors.token_embedding}, {".weight"})) {
      return std::vector<int>(holders.size(), 2);
    }
    if (absl::StartsWith(name, kAdapterPrefix)) {
      const bool is_a = absl::EndsWith(name, kLoraA), is_row = IsRowAdapter(name);
      // Every rank has A of its columns, and B of its rows; it has rows of A, or columns of B.
      if (is_a != is_row) return std::vector<int>(holders.size(), layout_.tp);
      if (is_a) return holders;
      name = ModuleOf(name) + ".weight";
    }
    const int64_t first = FirstSharedColumn(name);
    if (first < 0) return holders;
    const int shared =
        IsReplicated(name) ? layout_.tp : std::max<int>(1, layout_.tp / layout_.num_kv_heads);
    for (size_t i = 0; i < holders.size(); ++i) {
      if (static_cast<int64_t>(i) % entry.num_columns >= first) holders[i] = shared;
    }
    return holders;
  }

 private:
  static constexpr char kAdapterPrefix[] = "base_model.model.", kLoraA[] = ".lora_A.weight";

  static std::string ModuleOf(const std::string& adapter) {
    return adapter.substr(sizeof(kAdapterPrefix) - 1,
                          adapter.size() - sizeof(kAdapterPrefix) + 1 - (sizeof(kLoraA) - 1));
  }

  bool IsRowAdapter(const std::string& adapter) const {
    const TensorNames& n = config_.family->tensors;
    return IsOneOf(ModuleOf(adapter), {n.attention_output, n.down}, {""});
  }

  // -1: none.
  int64_t FirstSharedColumn(const std::string& name) const {
    const TensorNames& names = config_.family->tensors;
    if (IsReplicated(name)) return 0;
    if (!IsOneOf(name, {names.key, names.value, names.key_norm}, {".weight", ".bias"})) return -1;
    // One tensor may hold the queries, too, before or, without grouped heads, among the others.
    const bool with_queries = IsOneOf(name, {names.query}, {".weight", ".bias"});
    return with_queries ? config_.num_heads * config_.head_dim : 0;
  }

  bool IsReplicated(const std::string& name) const {
    const TensorNames& n = config_.family->tensors;
    if (config_.qk_norm == QkNorm::kPerHead &&
        IsOneOf(name, {n.query_norm, n.key_norm}, {".weight"})) {
      return true;
    }
    return IsOneOf(name, {n.attention_output, n.down}, {".bias"}) ||
           IsOneOf(name,
                   {n.position_embedding, n.attention_norm, n.attention_post_norm, n.mlp_norm,
                    n.mlp_post_norm, n.final_norm},
                   {".weight", ".bias"});
  }

  bool IsOneOf(const std::string& name, std::initializer_list<const char*> patterns,
               std::initializer_list<const char*> suffixes) const {
    for (const char* pattern : patterns) {
      for (int64_t layer = 0; pattern != nullptr && layer < config_.num_layers; ++layer) {
        for (const char* suffix : suffixes) {
          if (name == TensorName(pattern, layer) + suffix) return true;
        }
      }
    }
    return false;
  }

  const ModelConfig config_;
  const LayoutCase& layout_;
};

// Assembles all ranks' parts of an array of the index space.
template <typename RangesAndElements>
FullTensors Join(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                 const RangesAndElements& ranges_and_elements) {
  FullTensors full;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const MeshVector at = CoordinatesOf(layout.Sizes(), static_cast<int>(rank));
    const EngineOptions options = layout.Options();
    ParameterArena weights, adapters;
    const auto models = MakeStageModels(
        options, layout.pp, at.pp, TensorParallel::Planned(at.tp, layout.tp), &weights, &adapters);
    ParameterArena* const arena = options.model.lora.enabled() ? &adapters : &weights;
    PadBuckets(arena, options.dtype, layout.dp * layout.cp, options.gradients);
    arena->AllocateDryRun(options.dtype);
    const auto [ranges, elements] = ranges_and_elements(ranks[rank]);
    auto begin = elements->begin();
    for (const ShardRange& range : ranges) {
      full.Add(*arena, range, {begin, begin + range.size()});
      begin += range.size();
    }
    EXPECT_TRUE(begin == elements->end());
  }
  return full;
}

}  // namespace

FullTensors JoinGrads(const LayoutCase& layout, const std::vector<RankRecord>& ranks, int step) {
  return Join(layout, ranks, [&](const RankRecord& rank) {
    return std::pair(rank.ranges, &rank.steps[step - 1].grads);
  });
}

FullTensors JoinWeights(const LayoutCase& layout, const std::vector<RankRecord>& ranks) {
  return Join(layout, ranks, [](const RankRecord& rank) {
    const ShardRange all{0, static_cast<int64_t>(rank.weights.size())};
    return std::pair(std::vector<ShardRange>{all}, &rank.weights);
  });
}

namespace {

double SquaredNorm(const FullTensors& full) {
  double sum = 0;
  for (const auto& [name, entry] : full.entries()) {
    for (const double x : entry.values) sum += x * x;
  }
  return sum;
}

// `dp_copies`: the number of data- and context-parallel ranks that hold an element.
void ExpectEqual(const LayoutCase& layout, const FullTensors& actual, int dp_copies,
                 const FullTensors& expected, double tolerance) {
  const Holders holders(layout);
  int64_t num_elements = 0;
  ASSERT_EQ(actual.entries().size(), expected.entries().size());
  for (const auto& [name, entry] : expected.entries()) {
    ASSERT_EQ(actual.entries().count(name), 1) << name;
    const FullTensors::Entry& mine = actual.entries().at(name);
    std::vector<int> copies = holders.Of(name, entry);
    for (int& count : copies) count *= dp_copies;
    EXPECT_EQ(mine.num_copies, copies) << name;
    // Infinite where all expected values are 0.
    EXPECT_LE(RelativeError(mine.values, entry.values), tolerance) << name;
    num_elements += static_cast<int64_t>(entry.values.size());
  }
  const ModelConfig model = layout.Model();
  EXPECT_EQ(num_elements,
            model.lora.enabled() ? NumAdapterParameters(model) : NumParameters(model));
}

void ExpectEqualSteps(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                      const std::vector<RankRecord>& one_rank, int step,
                      const StepTolerance& tolerance_at) {
  SCOPED_TRACE(::testing::Message() << "step " << step);
  const double tolerance = tolerance_at(step);
  const StepRecord& expected = one_rank[0].steps[step - 1];
  const StepRecord& first = ranks[0].steps[step - 1];
  EXPECT_NEAR(first.loss, expected.loss, tolerance * expected.loss);
  EXPECT_NEAR(first.norm, expected.norm, tolerance * expected.norm);
  EXPECT_GT(expected.norm, kClipNorm);
  for (const RankRecord& rank : ranks) {
    EXPECT_EQ(rank.steps[step - 1].loss, first.loss);
    EXPECT_EQ(rank.steps[step - 1].norm, first.norm);
  }
  const FullTensors full = JoinGrads(layout.OnOneRank(), one_rank, step);
  EXPECT_NEAR(std::sqrt(SquaredNorm(full)), expected.norm, tolerance * expected.norm);
  ExpectEqual(layout, JoinGrads(layout, ranks, step), layout.zero > 0 ? 1 : layout.dp * layout.cp,
              full, tolerance);
}

}  // namespace

void ExpectTrainsTheModelOfOneRank(const LayoutCase& layout, const LayoutCase& one_rank_layout,
                                   const StepTolerance& tolerance_at) {
  const auto ranks = TrainLayout(layout);
  const auto one_rank = TrainLayout(one_rank_layout);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  ASSERT_TRUE(one_rank.ok()) << one_rank.status();
  for (int step = 1; step <= kNumTrainingSteps; ++step) {
    ExpectEqualSteps(layout, *ranks, *one_rank, step, tolerance_at);
  }
  const double tolerance = tolerance_at(kNumTrainingSteps + 1);
  ExpectEqual(layout, JoinWeights(layout, *ranks), layout.dp * layout.cp,
              JoinWeights(layout.OnOneRank(), *one_rank), tolerance);
  const double evaluation_loss = one_rank->front().evaluation_loss;
  for (const RankRecord& rank : *ranks) {
    EXPECT_NEAR(rank.evaluation_loss, evaluation_loss, tolerance * evaluation_loss);
  }
}

}  // namespace strake::testing
