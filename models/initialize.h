// Initial weights as a function of (seed, parameter name, element): the same for every layout.
#ifndef STRAKE_MODELS_INITIALIZE_H_
#define STRAKE_MODELS_INITIALIZE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/thread_team.h"
#include "core/memory/parameter_arena.h"

namespace strake {

// Sets every value to its parameter's mean + stddev * normal, where the normal number is Philox's
// (core/base/philox.h) keyed by the seed and the hash of the Hugging Face tensor's name, at the
// element's row-major index in that tensor, the whole one, as Hugging Face stores it: a slice of it
// gets the whole's bits, rounded to the values' dtype, on either device. Padding stays as it is.
// Values must be allocated. The error is that of a GPU.
absl::Status InitializeParameters(uint64_t seed, ThreadTeam& team, ParameterArena* arena);

}  // namespace strake

#endif  // STRAKE_MODELS_INITIALIZE_H_
