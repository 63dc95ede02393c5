// VocabParallelEmbedding: a table of token vectors whose rows are sharded over T ranks.
//
//   rank t holds rows [t*P/T, (t+1)*P/T) of the table [V, C], padded to P. N tokens; R = N, or N/T
//   with sequence parallelism.
//
//               in           local                            communication
//   Forward     tokens [N]   x [R, C] = token's row, or 0     all-reduce of x (SP: reduce-scatter)
//   Backward    dx [R, C]    dtable += dx's rows by token     SP: all-gather of dx before
//
// dtypes: tokens i32; the others f32, or f64 and c128 on the reference path.
// Source: Shoeybi et al., "Megatron-LM", 2019, section 3.
#ifndef STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_EMBEDDING_H_
#define STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_EMBEDDING_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

class VocabParallelEmbedding {
 public:
  // This rank's rows [P/T, C], which must outlive the layer.
  VocabParallelEmbedding(Parameter* table, int64_t vocab_size, const TensorParallel& tp);

  // Makes a layer with a parameter of its own: this rank's part of table [V, C].
  static absl::StatusOr<VocabParallelEmbedding> FromFull(const Tensor& table, const Mesh& mesh,
                                                         bool sequence_parallel = false);

  // The same layer without sequence parallelism: every rank holds every token.
  VocabParallelEmbedding WithoutSequenceParallelism() const;

  Parameter& table() const { return *table_; }
  // The vocabulary entries of the table's rows; a head that shares the table has these columns.
  const ParameterArena* own_arena() const { return own_arena_.get(); }
  // What the table's rows stand for; a head that shares the table has these columns.
  const VocabSlice& slice() const { return slice_; }

  // InvalidArgument, on every rank, for a token outside [0, V). x is allocated from ctx.arena().
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& tokens) const;
  // Announces the table. Of a frozen one there is nothing to compute.
  absl::Status Backward(const Context& ctx, const Tensor& dx, const Tensor& tokens) const;

 private:
  Parameter* table_;
  VocabSlice slice_;
  TensorParallel tp_;
  std::shared_ptr<ParameterArena> own_arena_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_EMBEDDING_H_
