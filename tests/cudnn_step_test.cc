// Whole steps with attention by cuDNN, on the stand-in for its library: what an engine does with
// its answers.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/ops/documents.h"
#include "core/testing/cudnn_contract/cudnn_contract.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/llama.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using testing::ScopedCudnnOptions;
using testing::SetCudnnOptions;
using testing::TestTensor;

constexpr int kSteps = 4;  // the second of which is recorded

EngineOptions Options() {
  ModelConfig model = kLlamaFamily.new_config();
  model.vocab_size = 31;
  model.max_positions = 64;
  model.hidden_size = 16;
  model.num_layers = 1;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.head_dim = 64;
  model.intermediate_size = 16;
  return {.model = model,
          .seq_len = 64,
          .micro_batch = 1,
          .dtype = DType::kBf16,
          .device = Device::kCuda,
          .cuda_graph = true};
}

// The lengths of the documents of each micro-batch; empty without documents.
using BatchDocuments = std::vector<std::vector<int64_t>>;

absl::Status Step(Engine& engine, int64_t step, const BatchDocuments& documents) {
  const TestTensor tokens(DType::kI32, {engine.options().seq_len});
  testing::FillTokens(tokens, /*seed=*/step, engine.options().model.vocab_size);
  for (size_t m = 0; m < 2; ++m) {
    const TestTensor positions(DType::kI32, {engine.options().seq_len});
    Documents of_batch;
    if (!documents.empty()) {
      of_batch = {positions, documents[(2 * step + m) % documents.size()]};
      STRAKE_RETURN_IF_ERROR(
          SetDocumentPositions(of_batch.lengths, engine.options().seq_len, positions));
    }
    STRAKE_RETURN_IF_ERROR(
        engine.AccumulateGradients(tokens, tokens, 1e-2, /*last=*/m == 1, of_batch));
  }
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  STRAKE_RETURN_IF_ERROR(engine.Update({.lr = 1e-3, .step = step}, /*clip_norm=*/1).status());
  return engine.Agree(/*stop=*/false).status();
}

struct Trained {
  std::string attention_note, weights;
};

Trained Train(const EngineOptions& options, const BatchDocuments& documents = {}) {
  Trained trained;
  const absl::Status status = RunOnThreads({1, 1, 1, 1}, {}, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(options, mesh));
    STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine->team(), &engine->parameters()));
    STRAKE_RETURN_IF_ERROR(engine->optimizer().SetMasters());
    for (int step = 1; step <= kSteps; ++step) {
      STRAKE_RETURN_IF_ERROR(Step(*engine, step, documents));
    }
    const Tensor& masters = engine->optimizer().masters();
    STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(masters));
    trained.attention_note = engine->attention_note();
    trained.weights.assign(static_cast<const char*>(host.tensor().raw()), masters.num_bytes());
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return trained;
}

class CudnnStepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status set = SetCudnnOptions({});
    if (!set.ok()) GTEST_SKIP() << set.message();
  }
};

TEST_F(CudnnStepTest, GraphsGiveTheBitsOfSteps) {
  EngineOptions options = Options();
  const Trained graphs = Train(options);
  options.cuda_graph = false;
  EXPECT_EQ(graphs.attention_note, "");
  EXPECT_EQ(graphs.weights, Train(options).weights);
}

// A plan of cuDNN has place for a document of each 64 tokens; more are our own kernels' work.
TEST_F(CudnnStepTest, GraphsFollowTheDocumentsOfEachMicroBatch) {
  EngineOptions options = Options();
  options.seq_len = options.model.max_positions = 128;
  options.documents = true;
  const BatchDocuments whole = {{128}};
  const BatchDocuments documents = {{50, 78}, {128},          {1, 127},    {64, 64},
                                    {127, 1}, {9, 9, 60, 50}, {120, 4, 4}, {31, 97}};
  const Trained graphs = Train(options, documents), of_whole = Train(options, whole);
  EXPECT_EQ(graphs.attention_note, "");
  EXPECT_NE(graphs.weights, of_whole.weights);
  options.cuda_graph = false;
  EXPECT_EQ(graphs.weights, Train(options, documents).weights);
  EXPECT_EQ(of_whole.weights, Train(options, whole).weights);
}

TEST_F(CudnnStepTest, ARefusalIsNotedAndTrainsOnOurKernels) {
  const Trained by_cudnn = Train(Options());
  const ScopedCudnnOptions refuse({.no_engine = true});
  const Trained by_us = Train(Options());
  EXPECT_THAT(by_us.attention_note, HasSubstr("told to have no engine"));
  EXPECT_NE(by_us.weights, by_cudnn.weights);
}

// Nothing is left to refuse once bits are given up.
TEST_F(CudnnStepTest, AStepThatIsNotDeterministicTakesThePlanThatIsNot) {
  EngineOptions options = Options();
  options.seq_len = options.model.max_positions = 512;
  options.deterministic = false;
  EXPECT_EQ(Train(options).attention_note, "");
}

}  // namespace
}  // namespace strake
