// Context: what every op and layer is given besides its tensors.
#ifndef STRAKE_CORE_DEVICE_CONTEXT_H_
#define STRAKE_CORE_DEVICE_CONTEXT_H_

#include <functional>
#include <utility>

#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"

namespace strake {

// Which implementations run: the fastest there is, or the Eigen definition of each op.
enum class OpSet { kAuto, kReference };

// Belongs to one rank and is used on its thread. Holds no tensors and owns nothing.
class Context {
 public:
  // Both must outlive the context.
  Context(ThreadTeam* team, ActivationArena* arena, OpSet op_set = OpSet::kAuto)
      : team_(team), arena_(arena), op_set_(op_set) {}

  // The rank's GPU, where its tensors are on one; outlives the context. A dry run needs none.
  void set_cuda(CudaContext* cuda) { cuda_ = cuda; }
  // CHECKs that there is one.
  CudaContext& cuda() const { return *CHECK_NOTNULL(cuda_); }
  CudaStream cuda_stream() const { return cuda().stream(); }

  ThreadTeam& team() const { return *team_; }
  ActivationArena& arena() const { return *arena_; }
  OpSet op_set() const { return op_set_; }
  bool reference() const { return op_set_ == OpSet::kReference; }

  // Ops validate shapes and return: the arena is planning memory.
  bool dry_run() const { return arena_->dry_run(); }

  // Which pass ops are timed under, and where to; null (the default) times nothing.
  void set_profile(OpProfile* profile) { profile_ = profile; }
  void set_pass(Pass pass) { pass_ = pass; }
  OpProfile* profile() const { return profile_; }
  Pass pass() const { return pass_; }

  // A layer calls GradReady() when a parameter's gradient has all of this micro-batch's terms: its
  // part of the arena may then be reduced while the backward pass goes on.
  void set_on_grad_ready(std::function<void(const Parameter&)> callback) {
    on_grad_ready_ = std::move(callback);
  }
  void GradReady(const Parameter& parameter) const {
    if (on_grad_ready_) on_grad_ready_(parameter);
  }

 private:
  ThreadTeam* team_;
  ActivationArena* arena_;
  OpSet op_set_;
  CudaContext* cuda_ = nullptr;
  OpProfile* profile_ = nullptr;
  Pass pass_ = Pass::kForward;
  std::function<void(const Parameter&)> on_grad_ready_;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_CONTEXT_H_
