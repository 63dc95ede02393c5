// Failures in the middle of a step on the GPU: all ranks end with the error of the rank that
// failed, values that are not finite are named, and nothing is updated.
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/llama.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TestTensor;

constexpr MeshVector kOneRank = {1, 1, 1, 1}, kFourRanks = {.dp = 2, .pp = 1, .cp = 1, .tp = 2};
constexpr int kFaultyRank = 2;
constexpr int kFirstSteps = 2;  // the second of which is recorded, where a step can be

EngineOptions Options(const MeshVector& sizes, DType dtype) {
  ModelConfig model = kLlamaFamily.new_config();
  model.vocab_size = 31;
  model.max_positions = 8;
  model.hidden_size = 16;
  model.num_layers = 1;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  model.head_dim = 4;
  model.intermediate_size = 16;
  return {.model = model,
          .seq_len = 8,
          .micro_batch = 1,
          .dtype = dtype,
          .device = Device::kCuda,
          .cuda_graph = true,
          .sequence_parallel = sizes.tp > 1,
          .gradients = {.zero = sizes.dp > 1 ? 1 : 0, .bucket_bytes = 2048}};
}

// The disturbance of a step, before its first, second, ... call.
using Interference = std::function<absl::Status(int call)>;

absl::Status Step(Engine& engine, int64_t step, const Interference& before) {
  const TestTensor tokens(DType::kI32, {engine.options().seq_len});
  testing::FillTokens(tokens, /*seed=*/step, engine.options().model.vocab_size);
  STRAKE_RETURN_IF_ERROR(before(0));
  STRAKE_RETURN_IF_ERROR(engine.AccumulateGradients(tokens, tokens, 1e-2, /*last=*/false));
  STRAKE_RETURN_IF_ERROR(before(1));
  STRAKE_RETURN_IF_ERROR(engine.AccumulateGradients(tokens, tokens, 1e-2, /*last=*/true));
  STRAKE_RETURN_IF_ERROR(before(2));
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  STRAKE_RETURN_IF_ERROR(before(3));
  STRAKE_RETURN_IF_ERROR(engine.Update({.lr = 1e-3, .step = step}, /*clip_norm=*/1).status());
  STRAKE_RETURN_IF_ERROR(before(4));
  return engine.Agree(/*stop=*/false).status();
}
constexpr int kNumCalls = 5;

absl::Status Nothing(int) { return absl::OkStatus(); }

// Calls body(engine) on each rank, after the first steps. Returns the errors, by rank.
std::vector<absl::Status> AfterFirstSteps(const MeshVector& sizes, DType dtype,
                                          const std::function<absl::Status(Engine&)>& body) {
  std::vector<absl::Status> statuses(NumRanks(sizes));
  const absl::Status first = RunOnThreads(
      sizes, {.timeout = std::chrono::seconds(20)}, [&](const Mesh& mesh) -> absl::Status {
        return statuses[mesh.rank()] = [&]() -> absl::Status {
          STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(Options(sizes, dtype), mesh));
          STRAKE_RETURN_IF_ERROR(
              InitializeParameters(/*seed=*/1, engine->team(), &engine->parameters()));
          STRAKE_RETURN_IF_ERROR(engine->optimizer().SetMasters());
          for (int step = 1; step <= kFirstSteps; ++step) {
            STRAKE_RETURN_IF_ERROR(Step(*engine, step, Nothing));
          }
          return body(*engine);
        }();
      });
  EXPECT_EQ(first.ok(), statuses == std::vector<absl::Status>(statuses.size()));
  return statuses;
}

TEST(CudaFailureTest, ARankThatFailsEndsAllWithItsError) {
  for (int call = 0; call < kNumCalls; ++call) {
    SCOPED_TRACE(absl::StrCat("before call ", call));
    const auto statuses = AfterFirstSteps(kFourRanks, DType::kF32, [&](Engine& engine) {
      return Step(engine, kFirstSteps + 1, [&](int c) {
        const bool here = c == call && engine.mesh().rank() == kFaultyRank;
        return here ? absl::DataLossError("a torn page") : absl::OkStatus();
      });
    });
    for (int rank = 0; rank < NumRanks(kFourRanks); ++rank) {
      SCOPED_TRACE(absl::StrCat("rank ", rank));
      EXPECT_FALSE(statuses[rank].ok());
      EXPECT_TRUE(absl::StrContains(statuses[rank].message(), "a torn page")) << statuses[rank];
    }
  }
}

TEST(CudaFailureTest, AFaultOfTheGpuEndsAllRanks) {
  const testing::ScopedEmulatedGpu gpu({});
  const auto statuses = AfterFirstSteps(kFourRanks, DType::kBf16, [&](Engine& engine) {
    return Step(engine, kFirstSteps + 1, [&](int call) {
      if (call != 1 || engine.mesh().rank() != kFaultyRank) return absl::OkStatus();
      return testing::EnqueueOnEmulatedGpu(engine.cuda()->stream(), "a kernel", [] {
        return absl::InternalError("an illegal address");
      });
    });
  });
  for (const absl::Status& status : statuses) {
    EXPECT_TRUE(absl::StrContains(status.message(), "an illegal address")) << status;
  }
}

std::string Bytes(const Tensor& x) {
  const auto host = HostCopy::Of(x);
  EXPECT_TRUE(host.ok()) << host.status();
  return std::string(static_cast<const char*>(host->tensor().raw()), x.num_bytes());
}

// All state that an update changes.
std::array<std::string, 4> State(Engine& engine) {
  EXPECT_TRUE(engine.GatherWeights().ok());
  const AdamW& optimizer = engine.optimizer();
  const Tensor& masters = optimizer.masters();
  return {Bytes(engine.parameters().values()), Bytes(optimizer.exp_avg()),
          Bytes(optimizer.exp_avg_sq()), masters.defined() ? Bytes(masters) : ""};
}

absl::Status SetNan(const Tensor& x, int64_t i) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(x));
  testing::SetElement(host, i, NAN);
  return host.WriteBack();
}

// Sets a weight of the last norm, which every tensor-parallel rank holds.
absl::Status SetNanWeight(Engine& engine) {
  STRAKE_RETURN_IF_ERROR(engine.GatherWeights());
  return SetNan(engine.parameters().records().back().parameter.value, 5);
}

class CudaNonFiniteTest : public ::testing::TestWithParam<DType> {};

TEST_P(CudaNonFiniteTest, WeightsAreNamedAndNothingIsUpdated) {
  for (const MeshVector& sizes : {kOneRank, kFourRanks}) {
    const auto statuses = AfterFirstSteps(sizes, GetParam(), [](Engine& engine) -> absl::Status {
      STRAKE_RETURN_IF_ERROR(SetNanWeight(engine));
      const std::string name = engine.parameters().records().back().name();
      const auto before = State(engine);
      const absl::Status status = Step(engine, kFirstSteps + 1, Nothing);
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
      EXPECT_TRUE(State(engine) == before);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("the loss is nan; the first tensor that is not finite is "),
                        HasSubstr(absl::StrCat("weight ", name, ", element 5 of "))));
      return absl::OkStatus();
    });
    for (const absl::Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
  }
}

TEST_P(CudaNonFiniteTest, AGradientOfOneRankIsNamedAndNothingIsUpdated) {
  for (const MeshVector& sizes : {kOneRank, kFourRanks}) {
    const int culprit = NumRanks(sizes) - 1;
    const auto statuses = AfterFirstSteps(sizes, GetParam(), [&](Engine& engine) -> absl::Status {
      const auto before = State(engine);
      const absl::Status status = Step(engine, kFirstSteps + 1, [&](int call) {
        const bool here = call == 3 && engine.mesh().rank() == culprit;
        return here ? SetNan(engine.grads()[0].values, 0) : absl::OkStatus();
      });
      EXPECT_TRUE(State(engine) == before);
      return status;
    });
    // ZeRO gives the last rank the second half of the first bucket, which begins within a matrix.
    const int element = NumRanks(sizes) > 1 ? 64 : 0;
    for (const absl::Status& status : statuses) {
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("the gradient norm is nan; the first tensor that is not finite "
                                  "is the gradient of model."),
                        HasSubstr(absl::StrCat(", element ", element, " of f32["))));
    }
  }
}

TEST_P(CudaNonFiniteTest, AnEvaluationNamesTheWeight) {
  const auto statuses = AfterFirstSteps(kOneRank, GetParam(), [](Engine& engine) -> absl::Status {
    const TestTensor tokens(DType::kI32, {engine.options().seq_len});
    testing::FillTokens(tokens, /*seed=*/9, engine.options().model.vocab_size);
    STRAKE_RETURN_IF_ERROR(engine.EvaluateLoss(tokens, tokens));
    STRAKE_RETURN_IF_ERROR(engine.Agree(/*stop=*/false).status());
    STRAKE_RETURN_IF_ERROR(SetNanWeight(engine));
    STRAKE_RETURN_IF_ERROR(engine.EvaluateLoss(tokens, tokens));
    return engine.Agree(/*stop=*/false).status();
  });
  EXPECT_THAT(std::string(statuses[0].message()),
              HasSubstr("the loss is nan; the first tensor that is not finite is weight model."));
}

INSTANTIATE_TEST_SUITE_P(DTypes, CudaNonFiniteTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) { return DTypeName(info.param); });

TEST(CudaFailureTest, ATokenOutsideTheVocabularyNeverReachesTheGpu) {
  const auto statuses = AfterFirstSteps(kOneRank, DType::kF32, [](Engine& engine) -> absl::Status {
    const TestTensor tokens(DType::kI32, {engine.options().seq_len});
    for (const int32_t wrong : {-1, 31}) {
      testing::FillTokens(tokens, /*seed=*/1, engine.options().model.vocab_size);
      tokens->data<int32_t>()[3] = wrong;
      const absl::Status status = engine.AccumulateGradients(tokens, tokens, 1, /*last=*/true);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat("token 3 of 8 is ", wrong, ",")))
          << status;
      EXPECT_EQ(engine.EvaluateLoss(tokens, tokens), status);
    }
    return Step(engine, kFirstSteps + 1, Nothing);
  });
  EXPECT_TRUE(statuses[0].ok()) << statuses[0];
}

}  // namespace
}  // namespace strake
