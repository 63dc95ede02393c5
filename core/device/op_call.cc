#include "core/device/op_call.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace strake {

const char* OpRoleName(OpRole role) {
  static constexpr const char* kNames[] = {"in", "out", "in/out"};
  return kNames[static_cast<int>(role)];
}

OpCall& OpCall::Add(const char* name, OpRole role, const Tensor& tensor, double num_bytes) {
  if (!tensor.defined()) return *this;
  operands.push_back({name, role, tensor.dtype(), tensor.shape()});
  if (num_bytes < 0) {
    // In floating point, so that no size overflows.
    num_bytes = static_cast<double>(DTypeSize(tensor.dtype()));
    for (const int64_t size : tensor.shape()) num_bytes *= static_cast<double>(size);
  }
  cost.bytes += role == OpRole::kInOut ? 2 * num_bytes : num_bytes;
  return *this;
}

OpCall& OpCall::In(const char* name, const Tensor& tensor, double num_bytes) {
  return Add(name, OpRole::kInput, tensor, num_bytes);
}

OpCall& OpCall::Out(const char* name, const Tensor& tensor, double num_bytes) {
  return Add(name, OpRole::kOutput, tensor, num_bytes);
}

OpCall& OpCall::InOut(const char* name, const Tensor& tensor, double num_bytes) {
  return Add(name, OpRole::kInOut, tensor, num_bytes);
}

OpCall& OpCall::Set(const char* attribute, double value) {
  attributes.push_back({attribute, value});
  return *this;
}

OpCall& OpCall::Flops(double flops) {
  cost.flops = flops;
  return *this;
}

const OpOperand* OpCall::Find(const char* operand) const {
  const auto found = std::find_if(operands.begin(), operands.end(), [&](const OpOperand& each) {
    return std::strcmp(each.name, operand) == 0;
  });
  return found == operands.end() ? nullptr : &*found;
}

const Shape& OpCall::ShapeOf(const char* operand) const {
  const OpOperand* const found = Find(operand);
  CHECK(found != nullptr) << "[op_call] no " << operand << " in " << ToString();
  return found->shape;
}

const OpAttribute* OpCall::FindAttribute(const char* attribute) const {
  const auto found =
      std::find_if(attributes.begin(), attributes.end(),
                   [&](const OpAttribute& each) { return std::strcmp(each.name, attribute) == 0; });
  return found == attributes.end() ? nullptr : &*found;
}

double OpCall::Get(const char* attribute) const {
  const OpAttribute* const found = FindAttribute(attribute);
  CHECK(found != nullptr) << "[op_call] no " << attribute << " in " << ToString();
  return found->value;
}

double OpCall::GetOr(const char* attribute, double otherwise) const {
  const OpAttribute* const found = FindAttribute(attribute);
  return found == nullptr ? otherwise : found->value;
}

std::string OpCall::ToString() const {
  std::string text = absl::StrCat(op, " ", PassName(pass));
  if (is_collective()) absl::StrAppend(&text, " of ", num_ranks, " ranks of ", axis);
  for (const OpOperand& each : operands) {
    absl::StrAppend(&text, ", ", OpRoleName(each.role), " ", each.name, " ", DTypeName(each.dtype),
                    ShapeString(each.shape));
  }
  for (const OpAttribute& each : attributes) {
    absl::StrAppend(&text, ", ", each.name, " ", absl::StrFormat("%.17g", each.value));
  }
  return text;
}

void OpRecorder::Add(OpCall call) {
  call.layer = layers_.empty() ? "" : layers_.back();
  call.times = times_;
  if (call.is_collective()) {
    call.pass = pass_;
  } else {
    pass_ = call.pass;
  }
  calls_.push_back(std::move(call));
}

}  // namespace strake
