// LayoutCase: a small model and a way to train it on many ranks.
#ifndef STRAKE_TESTS_LAYOUT_CASE_H_
#define STRAKE_TESTS_LAYOUT_CASE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/tensor/tensor.h"
#include "data/token_batch.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "train/engine/engine_options.h"

namespace strake::testing {

struct LayoutCase {
  // The model: 24 query heads, which 1, 2, 3, 4 and 8 ranks divide; or fewer, for GPT-2 a divisor.
  std::string model = "gpt2";  // of LayoutModels()
  bool tied = true;
  int64_t num_heads = 24;
  int64_t num_kv_heads = 24;
  int64_t vocab_size = 47;
  int64_t lora_rank = 0;         // of adapters, which are then all that is trained
  std::string lora_target = {};  // the end of the name of the layers with one; empty: all
  int64_t num_layers = 2;
  double initializer_range = 0.4;  // large enough that every gradient is far from 0
  // Of its sequences; with kMask and kPad some tokens have no target.
  DocumentMode documents = DocumentMode::kConcat;
  // The layout.
  int tp = 1;
  int dp = 1;
  int cp = 1;
  ContextComm cp_comm = ContextComm::kRing;
  int pp = 1;  // stages of a pipeline
  PipelineKind schedule = PipelineKind::k1f1b;
  int chunks = 1;  // per stage
  int in_flight = 0;
  bool sequence_parallel = false;
  int zero = 0;
  int64_t micro_batch = 2;  // sequences
  int num_micro_batches = 1;
  int num_threads = 1;  // per rank
  int64_t bucket_bytes = 25 << 20;
  bool overlap = true;
  bool reduce_in_bf16 = false;
  ActivationRecompute activation_recompute = ActivationRecompute::kNone;
  DType dtype = DType::kF64;  // on the reference ops; others on the fastest ops
  Device device = Device::kCpu;
  bool gpu_per_rank = false;  // and steps are CUDA graphs; else all share GPU 0

  static constexpr int64_t kSeqLen = 12;

  ModelConfig Model() const;
  MeshVector Sizes() const { return {.dp = dp, .pp = pp, .cp = cp, .tp = tp}; }
  EngineOptions Options() const;
  int64_t GlobalBatch() const { return micro_batch * dp * num_micro_batches; }
  // The same model, batch and dtype on one rank, in one micro-batch, on the CPU.
  LayoutCase OnOneRank() const;
  std::string ToString() const;
};

// A covering array: every two of these values occur together, where they can. The model, tied or
// untied, key/value heads (all, half of them, two, one), a vocabulary that every tp divides, a
// prime one and GPT-2's, tp 1, 2, 3, 4, 8, dp 1 to 4, sequence parallelism, zero 0 to 2, one to
// three micro-batches, documents, dtypes, one or two threads per rank, small and large buckets,
// gradients reduced in f32 and in bf16, one pipeline stage and two under four schedules, with four
// layers in two chunks each where they are interleaved, and context parallelism of one rank, and of
// two and three whose keys go round a ring or are gathered.
std::vector<LayoutCase> CoveringLayoutCases();

}  // namespace strake::testing

#endif  // STRAKE_TESTS_LAYOUT_CASE_H_
