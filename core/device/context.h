// Context: what every op and layer receives besides its tensors.
#ifndef STRAKE_CORE_DEVICE_CONTEXT_H_
#define STRAKE_CORE_DEVICE_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/device/cuda_context.h"
#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter.h"
#include "glog/logging.h"

namespace strake {

// Selects implementations: the fastest available, or each op's Eigen reference.
enum class OpSet { kAuto, kReference };

// Belongs to one rank and is used on its thread. Holds no tensors and owns nothing.
class Context {
 public:
  // Both must outlive the context.
  Context(ThreadTeam* team, ActivationArena* arena, OpSet op_set = OpSet::kAuto)
      : team_(team), arena_(arena), op_set_(op_set) {}

  // Sets the rank's GPU, for tensors on a GPU; it must outlive the context. A dry run needs none.
  void set_cuda(CudaContext* cuda) { cuda_ = cuda; }
  // CHECKs that there is a GPU.
  CudaContext& cuda() const { return *CHECK_NOTNULL(cuda_); }
  CudaStream cuda_stream() const { return cuda().stream(); }

  // The same with another arena, which must outlive it.
  Context WithArena(ActivationArena* arena) const {
    Context other = *this;
    other.arena_ = arena;
    return other;
  }

  ThreadTeam& team() const { return *team_; }
  ActivationArena& arena() const { return *arena_; }
  OpSet op_set() const { return op_set_; }
  bool reference() const { return op_set_ == OpSet::kReference; }

  // Sets whether an op must give the same bits every time (the default), where a faster
  // implementation may not. Only causal_attention on a GPU has one.
  void set_deterministic(bool deterministic) { deterministic_ = deterministic; }
  bool deterministic() const { return deterministic_; }

  // In a dry run, ops validate shapes, describe their call and return: the arena only plans memory.
  bool dry_run() const { return arena_->dry_run(); }

  // Sets where ops record their calls, in dry runs and others; null (the default) records nothing.
  void set_recorder(OpRecorder* recorder) { recorder_ = recorder; }
  OpRecorder* recorder() const { return recorder_; }

  // Sets the pass that ops are timed under, and the profile; null (the default) times nothing.
  void set_profile(OpProfile* profile) { profile_ = profile; }
  void set_pass(Pass pass) {
    pass_ = pass;
    if (recorder_ != nullptr) recorder_->set_pass(pass);
  }
  OpProfile* profile() const { return profile_; }
  Pass pass() const { return pass_; }

  // Sets the callback of GradReady(). A layer calls GradReady() when a parameter's gradient has all
  // of this micro-batch's terms; its part of the arena may then be reduced while the backward pass
  // continues. A frozen parameter has no gradient, and the callback does not hear of it.
  void set_on_grad_ready(std::function<void(const Parameter&)> callback) {
    on_grad_ready_ = std::move(callback);
  }
  void GradReady(const Parameter& parameter) const {
    if (on_grad_ready_ && !parameter.frozen) on_grad_ready_(parameter);
  }

  // Sets the callback of WillRead(). A layer calls WillRead() in its forward pass, before it reads
  // a parameter's value, which may still be on its way from another rank; a frozen one never is.
  void set_on_will_read(std::function<void(const Parameter&)> callback) {
    on_will_read_ = std::move(callback);
  }
  void WillRead(const Parameter& parameter) const {
    if (on_will_read_ && !parameter.frozen) on_will_read_(parameter);
  }

 private:
  ThreadTeam* team_;
  ActivationArena* arena_;
  OpSet op_set_;
  bool deterministic_ = true;
  CudaContext* cuda_ = nullptr;
  OpRecorder* recorder_ = nullptr;
  OpProfile* profile_ = nullptr;
  Pass pass_ = Pass::kForward;
  std::function<void(const Parameter&)> on_grad_ready_, on_will_read_;
};

// Names the caller of what is recorded and profiled until the end of the scope; does nothing
// without a name.
class LayerScope {
 public:
  LayerScope(const Context& ctx, const char* layer)
      : recorder_(layer == nullptr ? nullptr : ctx.recorder()),
        span_(layer == nullptr || ctx.dry_run() ? nullptr : ctx.profile(),
              {.category = "layer", .name = layer}) {
    if (recorder_ != nullptr) recorder_->layers_.push_back(layer);
  }
  ~LayerScope() {
    if (recorder_ != nullptr) recorder_->layers_.pop_back();
  }
  LayerScope(const LayerScope&) = delete;
  LayerScope& operator=(const LayerScope&) = delete;

 private:
  OpRecorder* const recorder_;
  const ProfileSpan span_;
};

// Stands between an op's checks of shapes and its return in a dry run. Records the op's call, and
// times the rest of the scope. `describe` adds operands, attributes and FLOPs to an OpCall; it runs
// only if somebody needs them.
class OpScope {
 public:
  template <typename Describe>
  OpScope(const Context& ctx, const char* op, const Describe& describe)
      : profile_(ctx.dry_run() ? nullptr : ctx.profile()) {
    if (profile_ == nullptr && ctx.recorder() == nullptr) return;
    OpCall call = {.op = op, .pass = ctx.pass()};
    describe(call);
    op_ = op;
    pass_ = call.pass;
    cost_ = call.cost;
    if (ctx.recorder() != nullptr) ctx.recorder()->Add(std::move(call));
    if (profile_ != nullptr) start_ = profile_->Now();
  }
  ~OpScope() {
    if (profile_ != nullptr) profile_->AddSince(start_, op_, pass_, cost_);
  }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

 private:
  OpProfile* const profile_;
  const char* op_ = nullptr;
  Pass pass_ = Pass::kForward;
  OpCost cost_ = {};
  int64_t start_ = 0;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_CONTEXT_H_
