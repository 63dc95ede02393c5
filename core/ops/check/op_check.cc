#include "core/ops/check/op_check.h"

#include <utility>
#include <vector>

#include "glog/logging.h"

namespace strake {

OpTensor In(const OpCall& call, const char* operand, double mean, double stddev) {
  const OpOperand* const found = call.Find(operand);
  CHECK(found != nullptr) << "[op_check] no " << operand << " in " << call.ToString();
  return {.name = operand,
          .dtype = found->dtype,
          .shape = found->shape,
          .mean = mean,
          .stddev = stddev};
}

OpTensor Out(const OpCall& call, const char* operand, Rounding rounding) {
  OpTensor tensor = In(call, operand);
  tensor.role = OpRole::kOutput;
  tensor.rounding = rounding;
  return tensor;
}

OpTensor InOut(const OpCall& call, const char* operand, Rounding rounding, double mean,
               double stddev) {
  OpTensor tensor = In(call, operand, mean, stddev);
  tensor.role = OpRole::kInOut;
  tensor.rounding = rounding;
  return tensor;
}

OpTensor Weight(const OpCall& call, const char* operand) {
  return In(call, operand, 0, kWeightStddev);
}

OpTensor Tokens(const OpCall& call, const char* operand) {
  OpTensor tensor = In(call, operand);
  tensor.num_tokens = call.GetInt("vocab_size");
  return tensor;
}

OpTensor Ids(const OpCall& call, const char* operand, std::vector<int32_t> ids) {
  OpTensor tensor = In(call, operand);
  CHECK_EQ(NumElements(tensor.shape), ids.size()) << "[op_check] ids of " << operand;
  tensor.ids = std::move(ids);
  return tensor;
}

OpTensor Grad(const OpCall& call, const char* operand, double num_terms, double num_roundings) {
  return InOut(call, operand, {num_terms, num_roundings});
}

}  // namespace strake
