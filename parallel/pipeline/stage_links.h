// StageLinks: what a stage of a pipeline sends to the stages before and behind it, and receives.
//
// Activations go from a stage to the next one, and gradients the other way. With several chunks the
// stage behind the last one is the first. Each direction between two stages is a group of its own,
// in which rank 0 sends and rank 1 receives: messages of one group never wait for those of another.
// Errors and traces name it by its stages ("pp 1->2"), and counters add all up as "pp".
//
// A message starts at once and waits for no stage; its Wait() waits for the other side. A message
// moves while its sender computes: threads copy it in the wait of the receiver, MPI has a thread
// that polls every 0.2 ms, and NCCL has the GPU. With check mode, Wait() of a message on a GPU
// waits on the host until the other side has called it.
#ifndef STRAKE_PARALLEL_PIPELINE_STAGE_LINKS_H_
#define STRAKE_PARALLEL_PIPELINE_STAGE_LINKS_H_

#include <array>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/schedule.h"

namespace strake {

class StageLinks {
 public:
  // Splits `pp`, whose rank r is stage r; all of its ranks call it. A CUDA stream is bound to `pp`
  // before. Returns the errors of the splits.
  static absl::StatusOr<StageLinks> Create(Communicator& pp, int chunks,
                                           CallSite site = CallSite::Here());

  // Sends the activations (kForward) to the next stage, or the gradient (kInputGradient) to the
  // previous one. CHECKs that there is one.
  Pending<Tensor> Send(PipelinePass pass, const Tensor& x, CallSite site = CallSite::Here());
  // Receives the activations from the previous stage, or the gradient from the next one: the n-th
  // that was sent is the n-th that is received.
  Pending<Tensor> Receive(PipelinePass pass, Tensor y, CallSite site = CallSite::Here());

  // The groups of this stage, for counters, profiles and streams.
  std::vector<Communicator*> communicators() const;

 private:
  using Groups = std::array<std::unique_ptr<Communicator>, 2>;  // by pass; null: no such stage

  static Communicator& GroupOf(const Groups& groups, PipelinePass pass);

  Groups to_, from_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_PIPELINE_STAGE_LINKS_H_
