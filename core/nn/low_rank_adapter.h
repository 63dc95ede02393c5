// LowRankAdapter: a trained product of two narrow matrices beside a linear layer (LoRA).
//
//   N tokens, r rank, s scale. The layer computes y [N, out] of x [N, in]. Its adapted columns are
//   G parts, each one run of columns, with matrices A_g [in, r] and B_g [r, n_g] of its own.
//   a [in, G r]        the A_g, side by side
//   b [r, sum of n_g]  the B_g, side by side
//
//   Forward         y_g [N, n_g]  += s (x A_g) B_g
//   BackwardInput   dx  [N, in]   += sum over g of du_g A_g^T,  du_g [N, r] = s dy_g B_g^T
//   BackwardWeight  dA_g += x^T du_g,  dB_g += s (x A_g)^T dy_g
//
// Several parts are one product: u [N, G r] times a matrix [G r, out] with the B_g as its blocks
// and zeros elsewhere. So y stays one matrix, for G times the FLOPs of its blocks. x A is narrow:
// the backward pass computes it again, and nothing is kept. dtypes as in core/nn/linear.h.
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1.
#ifndef STRAKE_CORE_NN_LOW_RANK_ADAPTER_H_
#define STRAKE_CORE_NN_LOW_RANK_ADAPTER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {

struct LowRankAdapterSaved {
  Tensor du;  // [N, G r]; BackwardInput leaves it to BackwardWeight
};

// Scratch and saved tensors are allocated from ctx.arena(). Wrong shapes are CHECK failures.
class LowRankAdapter {
 public:
  // `parts` are runs of the layer's `out` columns, ascending. The parameters, a before b in their
  // arena, must outlive the adapter.
  LowRankAdapter(Parameter* a, Parameter* b, double scale, std::vector<ShardRange> parts,
                 int64_t out);

  int64_t in_features() const { return a_->shape[0]; }
  int64_t out_features() const { return out_; }

  absl::Status Forward(const Context& ctx, const Tensor& x, const Tensor& y) const;
  // Allocates du from the arena of `kept`, where it is not null.
  absl::Status BackwardInput(const Context& ctx, const Tensor& dy, const Tensor& dx,
                             LowRankAdapterSaved* saved, const Context* kept = nullptr) const;
  // Calls ctx.GradReady() for b, then a.
  absl::Status BackwardWeight(const Context& ctx, const Tensor& dy, const Tensor& x,
                              const LowRankAdapterSaved& saved) const;

 private:
  // Multiplies by the scale, in place.
  absl::Status ApplyScale(const Context& ctx, const Tensor& x) const;
  // Computes u [N, G r] = s x a.
  absl::StatusOr<Tensor> Narrow(const Context& ctx, const Tensor& x) const;
  // Returns b as blocks [G r, out]; b itself if it is the only one.
  absl::StatusOr<Tensor> Blocks(const Context& ctx) const;
  // Adds the blocks of db [G r, out] to b's gradient.
  absl::Status AddBlocks(const Context& ctx, const Tensor& db) const;

  Parameter* a_;
  Parameter* b_;
  double scale_;
  std::vector<ShardRange> parts_;
  int64_t out_;
  bool whole_;  // one part, of all columns
};

}  // namespace strake

#endif  // STRAKE_CORE_NN_LOW_RANK_ADAPTER_H_
