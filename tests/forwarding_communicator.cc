#include "tests/forwarding_communicator.h"

#include <array>
#include <cstdint>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake::testing {

ForwardingCommunicator::ForwardingCommunicator(Communicator& inner)
    : Communicator(inner.rank(), inner.size(), inner.options()), inner_(inner) {}

ForwardingCommunicator::ForwardingCommunicator(std::unique_ptr<Communicator> inner)
    : ForwardingCommunicator(*inner) {
  owned_ = std::move(inner);
}

std::function<absl::Status()> ForwardingCommunicator::Start(CollectiveCall call) {
  const auto pending = std::make_shared<Pending<Tensor>>(Forward(call));
  return [pending] { return pending->Wait().status(); };
}

absl::StatusOr<std::unique_ptr<Communicator>> ForwardingCommunicator::SplitGroup(
    CollectiveCall call, CommunicatorOptions options) {
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group,
                          inner_.Split(call.color, call.key, options.axis, call.site));
  return Wrap(std::move(group));
}

Pending<Tensor> ForwardingCommunicator::Forward(const CollectiveCall& call) {
  const auto tensor = [&](const void* buffer, int64_t count) {
    return Tensor(const_cast<void*>(buffer), call.dtype, {count});
  };
  const int64_t piece = call.counts.empty() ? 0 : call.counts[rank()];
  switch (call.kind) {
    case CollectiveKind::kAllReduceSum:
      return inner_.AllReduceSum(tensor(call.output, call.count), call.site);
    case CollectiveKind::kAllReduceMax:
      return inner_.AllReduceMax(tensor(call.output, call.count), call.site);
    case CollectiveKind::kReduceScatterSum:
      return inner_.ReduceScatterSum(tensor(call.input, call.count), tensor(call.output, piece),
                                     call.counts, call.site);
    case CollectiveKind::kAllGather:
      return inner_.AllGather(tensor(call.input, piece), tensor(call.output, call.count),
                              call.counts, call.site);
    default:
      LOG(FATAL) << "no collective of a training step: " << call.ToString();
  }
}

Mesh WrapGroups(const Mesh& mesh,
                absl::FunctionRef<std::unique_ptr<Communicator>(Communicator& group)> wrap) {
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> groups;
  for (int i = 0; i < kNumMeshAxes; ++i) {
    groups[i] = wrap(mesh.communicator(static_cast<MeshAxis>(i)));
  }
  return Mesh(mesh.sizes(), mesh.rank(), std::move(groups),
              mesh.sizes().cp > 1 ? wrap(mesh.gradient_group()) : nullptr);
}

}  // namespace strake::testing
