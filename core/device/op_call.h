// OpCall: one call of an op, or of a collective, as data. OpRecorder: the calls of a run, in order.
//
// An op describes its call once, between its checks of shapes and its work. A dry run with a
// recorder thus lists what a step runs, and code that needs to know a model's ops reads that list.
#ifndef STRAKE_CORE_DEVICE_OP_CALL_H_
#define STRAKE_CORE_DEVICE_OP_CALL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/op_profile.h"
#include "core/tensor/tensor.h"

namespace strake {

enum class OpRole : uint8_t { kInput, kOutput, kInOut };

// "in", "out", "in/out".
const char* OpRoleName(OpRole role);

struct OpOperand {
  const char* name;
  OpRole role;
  DType dtype;
  Shape shape;
};

// Flags are 0 or 1.
struct OpAttribute {
  const char* name;
  double value;
};

struct OpCall {
  const char* op;  // "matmul"; of a collective, CollectiveName()
  Pass pass = Pass::kForward;
  std::vector<OpOperand> operands = {};  // the defined ones
  std::vector<OpAttribute> attributes = {};
  OpCost cost = {};
  std::string layer = {};  // the caller: the innermost LayerScope
  std::string axis = {};   // of a collective: its group, and the number of ranks in it
  int num_ranks = 1;
  int64_t times = 1;  // calls in a row, for a record that stands for repetitions

  // Adds an operand, if it is defined, and the bytes that it moves: `num_bytes`, or all its bytes;
  // twice that for an InOut.
  OpCall& In(const char* name, const Tensor& tensor, double num_bytes = -1);
  OpCall& Out(const char* name, const Tensor& tensor, double num_bytes = -1);
  OpCall& InOut(const char* name, const Tensor& tensor, double num_bytes = -1);
  OpCall& Set(const char* attribute, double value);
  OpCall& Flops(double flops);

  bool is_collective() const { return !axis.empty(); }

  // Returns null if there is none.
  const OpOperand* Find(const char* operand) const;
  bool Has(const char* operand) const { return Find(operand) != nullptr; }
  // CHECKs that it exists.
  const Shape& ShapeOf(const char* operand) const;
  double Get(const char* attribute) const;
  // Returns `otherwise` if there is none.
  double GetOr(const char* attribute, double otherwise) const;
  int64_t GetInt(const char* attribute) const { return static_cast<int64_t>(Get(attribute)); }

  // "rms_norm forward, in x f32[8, 16], ..., eps 1e-05": everything but cost, layer and times.
  // Equal calls have equal strings.
  std::string ToString() const;

 private:
  const OpAttribute* FindAttribute(const char* attribute) const;
  OpCall& Add(const char* name, OpRole role, const Tensor& tensor, double num_bytes);
};

// Belongs to one rank and is used on its thread.
class OpRecorder {
 public:
  OpRecorder() = default;
  OpRecorder(const OpRecorder&) = delete;
  OpRecorder& operator=(const OpRecorder&) = delete;

  // Appends the call, with the current layer and number of times. A collective does not know its
  // pass, so it takes that which began last: by set_pass(), or that of an op before it.
  void Add(OpCall call);
  void set_pass(Pass pass) { pass_ = pass; }

  // Makes each call that follows stand for this many in a row.
  void set_times(int64_t times) { times_ = times; }

  const std::vector<OpCall>& calls() const { return calls_; }

 private:
  friend class LayerScope;

  std::vector<OpCall> calls_;
  std::vector<const char*> layers_;  // outermost first
  int64_t times_ = 1;
  Pass pass_ = Pass::kForward;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_OP_CALL_H_
