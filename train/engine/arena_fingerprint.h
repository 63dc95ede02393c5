// The fingerprint of arrays over an arena's index space (core/base/fingerprint.h): of weights and
// optimizer state, whatever the layout that they are held in.
//
// An element's key is the hash of its tensor's name in Hugging Face's layout and of the array's
// suffix; its row and column are those of the whole tensor, in our orientation. So a rank needs
// nothing from others, and the sum over the ranks that own the elements is the same for every
// layout. Gaps and padding do not count.
#ifndef STRAKE_TRAIN_ENGINE_ARENA_FINGERPRINT_H_
#define STRAKE_TRAIN_ENGINE_ARENA_FINGERPRINT_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/fingerprint.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "models/checkpoint/hf_checkpoint.h"

namespace strake {

// The sum over the elements of all arrays whose segment is wanted. Waits for the device. Returns
// ResourceExhausted, or the device's error.
absl::StatusOr<Fingerprint> FingerprintOfArrays(
    const Context& ctx, const ParameterArena& parameters, absl::Span<const ArenaArray> arrays,
    absl::FunctionRef<bool(const ParameterSegment&)> wanted);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_ARENA_FINGERPRINT_H_
