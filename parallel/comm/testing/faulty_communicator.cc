#include "parallel/comm/testing/faulty_communicator.h"

#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake::testing {

absl::Status InjectedError() { return absl::DataLossError("a torn page"); }

std::string Numbered(const std::string& axis, const std::string& collective) {
  return axis + (collective == "send" || collective == "recv" ? ", " + collective : "");
}

FaultyCommunicator::FaultyCommunicator(Communicator& inner, FaultPlan* plan)
    : Communicator(inner.rank(), inner.size(), inner.options()), inner_(inner), plan_(plan) {}

FaultyCommunicator::FaultyCommunicator(std::unique_ptr<Communicator> inner, FaultPlan* plan)
    : FaultyCommunicator(*inner, plan) {
  owned_ = std::move(inner);
}

std::function<absl::Status()> FaultyCommunicator::Start(CollectiveCall call) {
  const bool here = size() > 1 && plan_->num_started++ == plan_->at;
  plan_->happened = plan_->happened || here;
  if (here) plan_->axis = axis();
  // A rank that fails joins no further collective.
  if (plan_->happened && plan_->fault == Fault::kErrorBefore) return InjectedError;
  const Fault fault = here ? plan_->fault : Fault::kNone;
  if (fault == Fault::kStopBefore) plan_->stop();
  const auto pending = std::make_shared<Pending<Tensor>>(Forward(call));
  ++plan_->num_joined[Numbered(axis(), CollectiveName(call.kind))];
  if (fault == Fault::kErrorInside) return [pending] { return InjectedError(); };
  if (fault == Fault::kStopInside) {
    return [pending, plan = plan_] {
      plan->stop();
      return pending->Wait().status();
    };
  }
  return [pending] { return pending->Wait().status(); };
}

absl::StatusOr<std::unique_ptr<Communicator>> FaultyCommunicator::SplitGroup(
    CollectiveCall call, CommunicatorOptions options) {
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group,
                          inner_.Split(call.color, call.key, options.axis, call.site));
  ++plan_->num_joined[axis()];
  return std::make_unique<FaultyCommunicator>(std::move(group), plan_);
}

Pending<Tensor> FaultyCommunicator::Forward(const CollectiveCall& call) {
  const auto tensor = [&](const void* buffer, int64_t count) {
    return Tensor(const_cast<void*>(buffer), call.dtype, {count});
  };
  const Tensor input = tensor(call.input, call.count), output = tensor(call.output, call.count);
  switch (call.kind) {
    case CollectiveKind::kAllReduceSum:
      return inner_.AllReduceSum(output, call.site);
    case CollectiveKind::kAllReduceMax:
      return inner_.AllReduceMax(output, call.site);
    case CollectiveKind::kReduceScatterSum:
      return inner_.ReduceScatterSum(input, tensor(call.output, call.counts[rank()]), call.counts,
                                     call.site);
    case CollectiveKind::kAllGather:
      return inner_.AllGather(tensor(call.input, call.counts[rank()]), output, call.counts,
                              call.site);
    case CollectiveKind::kSend:
      return inner_.Send(input, call.peer, call.site);
    case CollectiveKind::kRecv:
      return inner_.Recv(output, call.peer, call.site);
    default:
      CHECK(false) << "no collective of a training step: " << call.ToString();
      return Tensor();
  }
}

}  // namespace strake::testing
