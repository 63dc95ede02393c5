// A run that is resumed in another dtype, on another device, in another layout, and back, loses
// nothing of its fp32 weights and optimizer state, and keeps their fingerprint.
#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "core/base/status_macros.h"
#include "core/testing/temp_directory.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/engine/engine.h"
#include "train/run/checkpoint.h"

namespace strake {
namespace {

using testing::ReadFile;

struct RunKind {
  DType dtype;
  Device device;
  MeshVector sizes = {1, 1, 1, 1};
  int zero = 0;
};

const RunKind kBf16 = {DType::kBf16, Device::kCuda};
const RunKind kBf16OnFourRanks = {
    DType::kBf16, Device::kCuda, {.dp = 2, .pp = 1, .cp = 1, .tp = 2}, 1};
const RunKind kFp32 = {DType::kF32, Device::kCuda};
const RunKind kFp32OnTheCpu = {DType::kF32, Device::kCpu, {.dp = 2, .pp = 1, .cp = 1, .tp = 1}, 2};

EngineOptions Options(const RunKind& kind) {
  ModelConfig model = kGpt2Family.new_config();
  model.vocab_size = 31;
  model.max_positions = 8;
  model.hidden_size = 16;
  model.num_layers = 1;
  model.num_heads = model.num_kv_heads = 4;
  model.head_dim = 4;
  model.intermediate_size = 32;
  return {.model = model,
          .seq_len = 8,
          .micro_batch = 1,
          .dtype = kind.dtype,
          .device = kind.device,
          .gradients = {.zero = kind.zero}};
}

absl::Status Train(Engine& engine) {
  STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine.team(), &engine.parameters()));
  STRAKE_RETURN_IF_ERROR(engine.optimizer().SetMasters());
  const testing::TestTensor tokens(DType::kI32, {engine.options().seq_len});
  testing::FillTokens(tokens, /*seed=*/1, engine.options().model.vocab_size);
  STRAKE_RETURN_IF_ERROR(engine.AccumulateGradients(tokens, tokens, 0.1, /*last=*/true));
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  return engine.Update({.lr = 1e-3, .step = 1}, /*clip_norm=*/1).status();
}

class CudaCheckpointTest : public ::testing::Test {
 protected:
  // Writes `to` after a step, or, where `from` is given, after reading that.
  void Write(const RunKind& kind, const std::string& from, const std::string& to) {
    std::filesystem::create_directory(directory_ / to);
    const absl::Status status =
        RunOnThreads(kind.sizes, {.check = true}, [&](const Mesh& mesh) -> absl::Status {
          STRAKE_ASSIGN_OR_RETURN(const auto engine, Engine::Create(Options(kind), mesh));
          STRAKE_RETURN_IF_ERROR(from.empty() ? Train(*engine)
                                              : LoadCheckpoint(directory_ / from, *engine));
          STRAKE_ASSIGN_OR_RETURN(const Fingerprint fingerprint, engine->StateFingerprint());
          if (mesh.rank() == 0) fingerprints_.insert(fingerprint.ToString());
          return WriteCheckpoint(directory_ / to, *engine, {});
        });
    ASSERT_TRUE(status.ok()) << to << ": " << status;
  }
  void ExpectSame(const std::string& a, const std::string& b) {
    for (const char* name : {"/config.json", "/model.safetensors", "/optimizer.safetensors"}) {
      EXPECT_NE(ReadFile(directory_ / (a + name)), "");
      // Not EXPECT_EQ: it would print the weights.
      EXPECT_TRUE(ReadFile(directory_ / (a + name)) == ReadFile(directory_ / (b + name)))
          << a << " and " << b << name;
    }
  }

  std::set<std::string> fingerprints_;
  const testing::TempDirectory directory_;
};

TEST_F(CudaCheckpointTest, Bf16KeepsItsMastersInFp32AndBack) {
  Write(kBf16, "", "bf16");
  Write(kFp32OnTheCpu, "bf16", "fp32");
  Write(kBf16OnFourRanks, "fp32", "bf16 again");
  ExpectSame("bf16 again", "bf16");
  Write(kFp32, "bf16 again", "fp32 again");
  ExpectSame("fp32 again", "fp32");
  EXPECT_EQ(fingerprints_.size(), 1);
}

TEST_F(CudaCheckpointTest, Fp32KeepsItsWeightsInBf16AndBack) {
  Write(kFp32, "", "fp32");
  Write(kBf16OnFourRanks, "fp32", "bf16");
  Write(kFp32OnTheCpu, "bf16", "fp32 again");
  ExpectSame("fp32 again", "fp32");
  EXPECT_EQ(fingerprints_.size(), 1);
}

}  // namespace
}  // namespace strake
