// The machine's current arithmetic limit, which matrix products are compared with.
#ifndef STRAKE_CORE_DEVICE_FMA_PEAK_H_
#define STRAKE_CORE_DEVICE_FMA_PEAK_H_

#include "core/base/thread_team.h"

namespace strake {

// Floating-point operations per second in f32 (a fused multiply-add counts as two), over all
// threads of `team`. Measures a loop that only touches registers, with the machine's widest
// vectors. Returns the best of the windows of about 1 ms, one or more, that `seconds` have room
// for.
double MeasureFmaPeakFlops(ThreadTeam& team, double seconds = 0.2);

// The same for products of bf16 numbers that are summed in f32 (AVX-512's VDPBF16PS). If the CPU
// has no such instruction, returns the f32 figure. A CPU with AMX may do more.
double MeasureBf16PeakFlops(ThreadTeam& team, double seconds = 0.2);

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_FMA_PEAK_H_
