// The arithmetic limit of the machine, as it is now: what matrix products are compared with.
#ifndef STRAKE_CORE_DEVICE_FMA_PEAK_H_
#define STRAKE_CORE_DEVICE_FMA_PEAK_H_

#include "core/base/thread_team.h"

namespace strake {

// Floating-point operations per second (a fused multiply-add is two) in f32, over all threads of
// `team`, of a loop that touches registers alone, with the widest vectors of the machine at hand.
// The best of many short windows. Takes about 0.2 s.
double MeasureFmaPeakFlops(ThreadTeam& team);

// The same of products of bf16 numbers that are summed in f32 (AVX-512's VDPBF16PS). Where the CPU
// has no such instruction, that in f32. A CPU with AMX may do more.
double MeasureBf16PeakFlops(ThreadTeam& team);

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_FMA_PEAK_H_
