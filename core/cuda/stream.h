// A CUDA stream as a type, for headers that need no CUDA.
#ifndef STRAKE_CORE_CUDA_STREAM_H_
#define STRAKE_CORE_CUDA_STREAM_H_

struct CUstream_st;

namespace strake {

// The same type as cudaStream_t. Null is the default stream.
using CudaStream = CUstream_st*;

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_STREAM_H_
