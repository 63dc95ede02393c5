// Parameter: a weight and its gradient, as the layer that computes with them sees them. Their names
// in files and the ranks that hold them are in the arena's ParameterRecord (parameter_arena.h).
#ifndef STRAKE_CORE_MEMORY_PARAMETER_H_
#define STRAKE_CORE_MEMORY_PARAMETER_H_

#include "core/tensor/tensor.h"

namespace strake {

// A weight and its gradient, or one tensor-parallel rank's shard of them.
struct Parameter {
  Shape shape;  // the same on every rank
  Tensor value;
  Tensor grad;  // f32 for bf16 values, else the values' dtype; undefined without gradients
  // Set by a layer that computes the whole gradient at once. Code that clears gradients then need
  // not zero this one. It sets `grad_is_cleared` instead, which means that the contents no longer
  // count. The layer resets that flag and overwrites the gradient instead of adding to it.
  bool grad_is_overwritten = false;
  bool grad_is_cleared = false;
  // Has no gradient: layers neither compute nor announce one, and its value never changes.
  bool frozen = false;
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_PARAMETER_H_
