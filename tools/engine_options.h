// EngineOptions: what decides what an engine computes, and what it allocates.
#ifndef STRAKE_TOOLS_ENGINE_OPTIONS_H_
#define STRAKE_TOOLS_ENGINE_OPTIONS_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/device/context.h"
#include "models/model_config.h"
#include "parallel/data/gradient_reducer.h"

namespace strake {

struct EngineOptions {
  ModelConfig model;
  int64_t seq_len = 0;
  int64_t micro_batch = 0;  // sequences per pass and data-parallel rank, at most
  int num_threads = 1;      // per rank
  OpSet op_set = OpSet::kAuto;
  DType dtype = DType::kF32;  // f64 with the reference ops alone
  bool sequence_parallel = false;
  GradientReducerOptions gradients = {};  // ZeRO, and how gradients are reduced
};

}  // namespace strake

#endif  // STRAKE_TOOLS_ENGINE_OPTIONS_H_
