// Initial weights as a function of (seed, parameter name, element): the same for every layout.
#ifndef STRAKE_MODELS_INITIALIZE_H_
#define STRAKE_MODELS_INITIALIZE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/thread_team.h"
#include "core/memory/parameter_arena.h"

namespace strake {

// Sets every value to its parameter's mean + stddev * normal + bound * uniform, with a uniform
// number in [-1, 1). The random numbers are Philox's (core/base/philox.h), keyed by the seed and
// the hash of the Hugging Face tensor's name, at the element's row-major index in the whole tensor,
// as Hugging Face stores it. So a slice gets the bits of the whole tensor, rounded to the values'
// dtype, on either device. Padding keeps its values. Values must be allocated. Returns a GPU's
// error.
absl::Status InitializeParameters(uint64_t seed, ThreadTeam& team, ParameterArena* arena);

}  // namespace strake

#endif  // STRAKE_MODELS_INITIALIZE_H_
