// How options cut a model into stages.
#include "train/engine/stage_models.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/model_config.h"

namespace strake {
namespace {

EngineOptions Options(int64_t num_layers, int64_t vocab_size) {
  EngineOptions options = {.seq_len = 16, .micro_batch = 2};
  ModelConfig& model = options.model;
  model = kGpt2Family.new_config();
  model.family = &kGpt2Family;
  model.vocab_size = vocab_size;
  model.max_positions = 16;
  model.hidden_size = 8;
  model.num_heads = model.num_kv_heads = 2;
  model.head_dim = 4;
  model.intermediate_size = 32;
  model.num_layers = num_layers;
  options.pipeline.micro_batches = 4;
  return options;
}

// A product of [m, k] and [k, n] is 2 m k n, and has two more of the same size backwards.
TEST(StageModelsTest, CostsAreFlops) {
  const EngineOptions options = Options(/*num_layers=*/3, /*vocab_size=*/40);
  const LayerCosts costs = RecordLayerCosts(options);
  ASSERT_EQ(costs.layers.size(), 3);
  EXPECT_EQ(costs.first, 0);
  // The head's columns are the vocabulary.
  EXPECT_EQ(costs.last, 3 * 2.0 * 16 * 8 * 40);
  const double products = 3 * 2.0 * 16 * (8 * 24 + 8 * 8 + 2 * 8 * 32);
  for (const double layer : costs.layers) {
    EXPECT_EQ(layer, costs.layers[0]);
    EXPECT_GT(layer, products);  // and attention
    EXPECT_LT(layer, 1.25 * products);
  }
}

// A head that costs as much as two layers has two layers fewer beside it.
TEST(StageModelsTest, LayersAreSpreadByFlops) {
  EngineOptions options = Options(/*num_layers=*/6, /*vocab_size=*/8);
  EXPECT_EQ(LayersOfParts(options, 2), (std::vector<int64_t>{3, 3}));
  const double layer = RecordLayerCosts(options).layers[0];
  options.model.vocab_size = static_cast<int64_t>(2 * layer / (3 * 2.0 * 16 * 8));
  EXPECT_EQ(LayersOfParts(options, 2), (std::vector<int64_t>{4, 2}));
  options.pipeline.layers = {1, 5};
  EXPECT_EQ(LayersOfParts(options, 2), (std::vector<int64_t>{1, 5}));
  EXPECT_EQ(LayersOfParts(options, 1), (std::vector<int64_t>{6}));
}

TEST(StageModelsTest, TheCutStays) {
  EngineOptions options = Options(/*num_layers=*/6, /*vocab_size=*/8);
  options.model.vocab_size = 1000;
  EXPECT_EQ(WithLayersOfParts(options, 1).pipeline.layers, std::vector<int64_t>());
  EngineOptions cut = WithLayersOfParts(options, 2);
  EXPECT_EQ(cut.pipeline.layers, LayersOfParts(options, 2));
  cut.model.vocab_size = 8;
  EXPECT_NE(LayersOfParts(options, 2), (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(LayersOfParts(cut, 2), LayersOfParts(options, 2));
}

TEST(StageModelsTest, LayoutsThatCannotBe) {
  const auto error = [](const EngineOptions& options, int stages) {
    return std::string(CheckPipeline(options, stages).message());
  };
  EngineOptions options = Options(/*num_layers=*/3, /*vocab_size=*/8);
  EXPECT_EQ(error(options, 3), "");
  EXPECT_NE(error(options, 4).find("3 layers"), std::string::npos) << error(options, 4);
  options.pipeline.layers = {1, 1};
  EXPECT_NE(error(options, 2), "");
  EXPECT_EQ(error(options, 1), "");
  options = Options(/*num_layers=*/8, /*vocab_size=*/8);
  options.pipeline.kind = PipelineKind::kInterleaved;
  options.pipeline.chunks = 2;
  EXPECT_EQ(error(options, 4), "");
  options.pipeline.micro_batches = 3;
  EXPECT_NE(error(options, 4), "");
}

// Together the stages have each parameter once, and a copy of a tied table that does not count.
TEST(StageModelsTest, StagesHaveTheModel) {
  EngineOptions options = Options(/*num_layers=*/4, /*vocab_size=*/8);
  options.pipeline.kind = PipelineKind::kInterleaved;
  options.pipeline.chunks = 2;
  options.model.tie_word_embeddings = true;
  ParameterArena whole, unused;
  const auto model = MakeStageModels(options, 1, 0, TensorParallel(), &whole, &unused);
  int64_t num_elements = 0;
  size_t num_records = 0;
  for (int stage = 0; stage < 2; ++stage) {
    ParameterArena weights, adapters;
    const auto chunks = MakeStageModels(options, 2, stage, TensorParallel(), &weights, &adapters);
    ASSERT_EQ(chunks.size(), 2);
    EXPECT_EQ(chunks[0]->layers(), (LayerRange{stage, stage + 1}));
    EXPECT_EQ(chunks[1]->layers(), (LayerRange{stage + 2, stage + 3}));
    EXPECT_EQ(weights.parts().size(), 2);
    num_records += weights.records().size();
    for (const ParameterRecord& record : weights.records()) {
      EXPECT_EQ(record.own_bucket, record.name() == whole.records()[0].name());
      if (record.segments[0].slice.owner) num_elements += record.num_elements();
    }
  }
  EXPECT_EQ(num_records, whole.records().size() + 1);
  EXPECT_EQ(num_elements, whole.num_parameters());
}

}  // namespace
}  // namespace strake
