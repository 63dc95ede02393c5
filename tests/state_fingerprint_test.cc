// The fingerprint of weights and optimizer: the same under every layout and dtype, and another for
// any change. Replicas that drift apart are named.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/base/fingerprint.h"
#include "core/base/status_macros.h"
#include "core/testing/temp_directory.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"
#include "train/engine/engine.h"
#include "train/run/checkpoint.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using OnRank = std::function<absl::Status(Engine&)>;

absl::Status OnRanks(const LayoutCase& layout, const OnRank& body) {
  return RunOnThreads(layout.Sizes(), {.check = true}, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto engine, MakeEngine(layout, mesh));
    return body(*engine);
  });
}

absl::Status Step(Engine& engine) {
  const TestTensor tokens(DType::kI32, {engine.options().seq_len});
  FillTokens(tokens, /*seed=*/1, engine.options().model.vocab_size);
  STRAKE_RETURN_IF_ERROR(engine.AccumulateGradients(tokens, tokens, 0.1, /*last=*/true));
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  return engine.Update({.lr = 1e-3, .step = 1}, /*clip_norm=*/1).status();
}

LayoutCase Case(const ModelFamily* family, DType dtype = DType::kF32) {
  LayoutCase layout = {.model = family->model_type, .dtype = dtype};
  layout.tied = family == &kGpt2Family;
  if (family == &kLlamaFamily) layout.num_kv_heads = 2;
  return layout;
}

// Layouts of a model: slices of rows, of columns and of fused columns, padding of the vocabulary of
// 47, replicated key/value heads, parts of ZeRO's buckets, of several sizes, that end anywhere.
std::vector<LayoutCase> LayoutsOf(const ModelFamily* family) {
  std::vector<LayoutCase> layouts;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int tp : {1, 2, 4, 8}) {
      for (const auto& [dp, zero] : {std::pair{1, 0}, {2, 0}, {2, 1}, {3, 2}}) {
        LayoutCase layout = Case(family, dtype);
        layout.tp = tp;
        layout.dp = dp;
        layout.zero = zero;
        layout.bucket_bytes = zero == 2 ? 1 : 4000;
        layouts.push_back(layout);
      }
    }
  }
  // Ranks that share sequences shard as data-parallel ranks do.
  for (const auto& [cp, dp, zero] : {std::tuple{2, 1, 1}, {3, 2, 2}}) {
    LayoutCase layout = Case(family);
    layout.cp = cp;
    layout.dp = dp;
    layout.zero = zero;
    layout.bucket_bytes = 4000;
    layouts.push_back(layout);
  }
  return layouts;
}

class StateFingerprintTest : public ::testing::TestWithParam<const ModelFamily*> {
 protected:
  // Writes a checkpoint after a step, and returns its fingerprint.
  Fingerprint Train(const LayoutCase& layout) {
    std::vector<Fingerprint> fingerprints(NumRanks(layout.Sizes()));
    std::filesystem::create_directory(directory_ / "step");
    const absl::Status status = OnRanks(layout, [&](Engine& engine) -> absl::Status {
      STRAKE_RETURN_IF_ERROR(Step(engine));
      STRAKE_ASSIGN_OR_RETURN(fingerprints[engine.mesh().rank()], engine.StateFingerprint());
      return WriteCheckpoint(directory_ / "step", engine, {});
    });
    EXPECT_TRUE(status.ok()) << status;
    for (const Fingerprint& each : fingerprints) EXPECT_EQ(each, fingerprints[0]);
    return fingerprints[0];
  }
  // The fingerprint after loading that checkpoint and changing it.
  Fingerprint Load(const LayoutCase& layout, const std::function<void(Engine&)>& change = {}) {
    std::vector<Fingerprint> fingerprints(NumRanks(layout.Sizes()));
    const absl::Status status = OnRanks(layout, [&](Engine& engine) -> absl::Status {
      STRAKE_RETURN_IF_ERROR(LoadCheckpoint(directory_ / "step", engine));
      if (change) change(engine);
      STRAKE_ASSIGN_OR_RETURN(fingerprints[engine.mesh().rank()], engine.StateFingerprint());
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    for (const Fingerprint& each : fingerprints) EXPECT_EQ(each, fingerprints[0]);
    return fingerprints[0];
  }

  const TempDirectory directory_;
};

TEST_P(StateFingerprintTest, IsTheSameUnderEveryLayout) {
  const Fingerprint saved = Train(Case(GetParam()));
  EXPECT_NE(saved, Fingerprint());
  for (const LayoutCase& layout : LayoutsOf(GetParam())) {
    EXPECT_EQ(Load(layout), saved) << layout.ToString();
  }
}

// Stages load, and write the same bytes. Of a tied table both copies are loaded and one is written.
TEST_P(StateFingerprintTest, IsTheSameInStages) {
  const Fingerprint saved = Train(Case(GetParam()));
  const std::string step = directory_ / "step", again = directory_ / "again";
  std::filesystem::create_directory(again);
  for (const auto& [tp, dp, zero] : {std::tuple{1, 1, 0}, {2, 1, 0}, {1, 2, 1}, {2, 2, 2}}) {
    LayoutCase layout = Case(GetParam());
    layout.pp = 2;
    layout.tp = tp;
    layout.dp = dp;
    layout.zero = zero;
    layout.bucket_bytes = 4000;
    SCOPED_TRACE(layout.ToString());
    EXPECT_EQ(Load(layout), saved);
    const absl::Status written = OnRanks(layout, [&](Engine& engine) -> absl::Status {
      STRAKE_RETURN_IF_ERROR(LoadCheckpoint(step, engine));
      return WriteCheckpoint(again, engine, {});
    });
    EXPECT_TRUE(written.ok()) << written;
    for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
      EXPECT_TRUE(ReadFile(again + file) == ReadFile(step + file)) << file;
    }
  }
}

// A bf16 run's is that of its fp32 weights.
TEST_P(StateFingerprintTest, OfABf16RunIsTheSameUnderEveryLayout) {
  LayoutCase sliced = Case(GetParam(), DType::kBf16);
  sliced.tp = 2;
  sliced.dp = 2;
  sliced.zero = 1;
  sliced.bucket_bytes = 3000;
  const Fingerprint saved = Train(sliced);
  for (const LayoutCase& layout : LayoutsOf(GetParam())) {
    EXPECT_EQ(Load(layout), saved) << layout.ToString();
  }
}

// The first element of a matrix that each tensor-parallel rank has a part of, within the arrays of
// the rank's optimizer.
int64_t FirstOfAMatrix(Engine& engine) {
  int64_t at = 0;
  for (const ArenaPart& part : engine.grads()) {
    for (const ParameterRecord& record : engine.parameters().records()) {
      const int64_t begin = std::max(record.offset, part.begin);
      if (absl::StrContains(record.name(), "mlp") && record.shape().size() == 2 &&
          begin + 64 <= std::min(record.end(), part.end())) {
        return at + begin - part.begin;
      }
    }
    at += part.values.num_elements();
  }
  ADD_FAILURE() << "no matrix in the ranges";
  return 0;
}

TEST_P(StateFingerprintTest, AnyChangeIsNoticed) {
  LayoutCase layout = Case(GetParam());
  layout.tp = 2;
  layout.dp = 2;
  layout.zero = 1;
  std::vector<Fingerprint> seen = {Train(layout)};
  const auto expect_new = [&](const char* what, const std::function<void(Engine&)>& change) {
    const Fingerprint fingerprint = Load(layout, change);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), fingerprint), 0) << what;
    seen.push_back(fingerprint);
  };
  const auto flip = [](const Tensor& x, int64_t i, int bit) {
    static_cast<uint32_t*>(x.raw())[i] ^= 1u << bit;
  };
  const auto swap = [](const Tensor& x, int64_t i, const Tensor& y, int64_t j, int64_t count = 1) {
    float* const a = x.data<float>() + i;
    float* const b = y.data<float>() + j;
    EXPECT_NE(std::memcmp(a, b, count * sizeof(float)), 0);
    std::swap_ranges(a, a + count, b);
  };
  const auto on = [](int rank, const std::function<void(Engine&)>& change) {
    return [=](Engine& engine) {
      if (engine.mesh().rank() == rank) change(engine);
    };
  };
  for (const int rank : {0, 1, 2, 3}) {
    expect_new("a bit of a moment", on(rank, [&](Engine& engine) {
                 flip(engine.optimizer().exp_avg(), FirstOfAMatrix(engine), 0);
               }));
    expect_new("a bit of the other", on(rank, [&](Engine& engine) {
                 flip(engine.optimizer().exp_avg_sq(), FirstOfAMatrix(engine), 31);
               }));
    expect_new("moments that changed places", on(rank, [&](Engine& engine) {
                 const int64_t i = FirstOfAMatrix(engine);
                 swap(engine.optimizer().exp_avg(), i, engine.optimizer().exp_avg_sq(), i, 64);
               }));
    expect_new("two moments", on(rank, [&](Engine& engine) {
                 const int64_t i = FirstOfAMatrix(engine);
                 swap(engine.optimizer().exp_avg(), i, engine.optimizer().exp_avg(), i + 1);
               }));
  }
  for (const int rank : {0, 1}) {
    expect_new("a bit of a weight",
               on(rank, [&](Engine& engine) { flip(engine.parameters().values(), 7, 12); }));
    expect_new("two weights", on(rank, [&](Engine& engine) {
                 swap(engine.parameters().values(), 0, engine.parameters().values(), 100);
               }));
  }
  // The first matrices of the two layers, on every rank.
  expect_new("two tensors", [&](Engine& engine) {
    std::vector<Tensor> same_shape;
    for (const ParameterRecord& record : engine.parameters().records()) {
      if (absl::StrContains(record.name(), "mlp") && record.shape().size() == 2) {
        same_shape.push_back(record.parameter.value);
      }
    }
    ASSERT_EQ(same_shape.size(), 4u);
    swap(same_shape[0], 0, same_shape[2], 0, same_shape[0].num_elements());
  });
}

INSTANTIATE_TEST_SUITE_P(Families, StateFingerprintTest,
                         ::testing::Values(&kGpt2Family, &kLlamaFamily),
                         [](const auto& info) { return std::string(info.param->model_type); });

// Changes an element of a segment's tensor on one rank, and returns what CompareReplicas() says.
std::string Drift(const LayoutCase& layout, int rank, const std::string& tensor, int64_t element) {
  const absl::Status status = OnRanks(layout, [&](Engine& engine) -> absl::Status {
    STRAKE_RETURN_IF_ERROR(engine.CompareReplicas());
    if (engine.mesh().rank() == rank) {
      ParameterArena& weights = engine.base() != nullptr ? *engine.base() : engine.parameters();
      for (ParameterRecord& record : weights.records()) {
        if (record.name() != tensor) continue;
        record.parameter.value.data<float>()[element] += 1;
      }
    }
    return engine.CompareReplicas();
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  return std::string(status.message());
}

TEST(CompareReplicasTest, NamesTheTensorThatDrifted) {
  LayoutCase layout = Case(&kLlamaFamily);
  layout.dp = 2;
  layout.tp = 2;
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  EXPECT_THAT(Drift(layout, 2, name, 5),
              AllOf(HasSubstr(name), HasSubstr("differs along axis dp"), HasSubstr("on rank 1")));
  layout.dp = 1;
  layout.tp = 4;
  EXPECT_THAT(Drift(layout, 3, "model.norm.weight", 5),
              AllOf(HasSubstr("model.norm.weight"), HasSubstr("differs along axis tp")));
}

// Two key/value heads on four ranks. The parameter begins with the query's columns.
TEST(CompareReplicasTest, NamesAReplicatedKeyValueHead) {
  LayoutCase layout = Case(&kLlamaFamily);
  layout.tp = 4;
  const int64_t query_columns = layout.Model().num_heads * layout.Model().head_dim / layout.tp;
  EXPECT_THAT(Drift(layout, 1, "model.layers.0.self_attn.q_proj.weight", query_columns),
              AllOf(HasSubstr("model.layers.0.self_attn.k_proj.weight"), HasSubstr("differs")));
}

// A tied table, which the first and the last of three stages have.
TEST(CompareReplicasTest, NamesATiedTableInStages) {
  LayoutCase layout = Case(&kGpt2Family);
  layout.num_layers = layout.pp = 3;
  layout.tp = 2;
  for (const int64_t lora_rank : {0, 2}) {
    layout.lora_rank = lora_rank;
    for (const int rank : {1, 5}) {  // the second slice of the first stage, and of the last
      EXPECT_THAT(Drift(layout, rank, "transformer.wte.weight", 5),
                  AllOf(HasSubstr("the fingerprint of transformer.wte.weight"),
                        HasSubstr("differs along axis pp"), HasSubstr("on rank 2")))
          << layout.ToString() << ", rank " << rank;
    }
  }
}

// Check mode compares after a step.
TEST(CompareReplicasTest, AStepThatDriftsFails) {
  LayoutCase layout = Case(&kGpt2Family);
  layout.pp = 2;
  const absl::Status status = OnRanks(layout, [](Engine& engine) -> absl::Status {
    if (engine.mesh().coordinates().pp == 1) {
      for (ParameterRecord& record : engine.parameters().records()) {
        if (record.name() == "transformer.wte.weight") {
          record.parameter.value.data<float>()[0] += 1;
        }
      }
    }
    return Step(engine);
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("transformer.wte.weight"));
}

}  // namespace
}  // namespace strake::testing
