// Short vectors that device code loads and stores as a whole.
#ifndef STRAKE_CORE_CUDA_VEC_H_
#define STRAKE_CORE_CUDA_VEC_H_

namespace strake {

inline constexpr int kVecBytes = 16;

// kWidth elements: one, or a number that makes 8 bytes or a multiple of 16.
template <typename T, int kWidth>
struct alignas(kWidth == 1               ? alignof(T)
               : sizeof(T) * kWidth == 8 ? 8
                                         : kVecBytes) Vec {
  static_assert(kWidth == 1 || sizeof(T) * kWidth == 8 || sizeof(T) * kWidth % kVecBytes == 0);
  T at[kWidth];
};

// Number of elements of T in 16 bytes.
template <typename T>
inline constexpr int kVecWidth = kVecBytes / static_cast<int>(sizeof(T));

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_VEC_H_
