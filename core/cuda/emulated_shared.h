// A block's shared memory, as core/cuda/portable.h presents it under the emulator.
// core/testing/cuda_shared_memory.h checks every access.
#ifndef STRAKE_CORE_CUDA_EMULATED_SHARED_H_
#define STRAKE_CORE_CUDA_EMULATED_SHARED_H_

#include <cstddef>

#include "core/cuda/vec.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/cuda_shared_memory.h"

namespace strake {

// One element of shared memory, whose reads and writes are checked.
template <typename T>
class SharedElement {
 public:
  SharedElement(testing::CudaSharedMemory* memory, ptrdiff_t offset)
      : memory_(memory), offset_(offset) {}
  operator T() const {  // NOLINT(google-explicit-constructor): stands for a T&
    T value;
    memory_->Read(offset_, sizeof(value), &value);
    return value;
  }
  T operator=(T value) const {
    memory_->Write(offset_, sizeof(value), &value);
    return value;
  }
  // NOLINTNEXTLINE(bugprone-unhandled-self-assignment): reads, then writes what it read.
  T operator=(const SharedElement& other) const { return *this = static_cast<T>(other); }
  T operator+=(T value) const { return *this = static_cast<T>(*this) + value; }
  void operator&() const = delete;

 private:
  testing::CudaSharedMemory* memory_;
  ptrdiff_t offset_;
};

template <typename T>
class SharedPointer {
 public:
  SharedPointer(testing::CudaSharedMemory* memory, ptrdiff_t offset)
      : memory_(memory), offset_(offset) {}
  SharedElement<T> operator[](ptrdiff_t i) const {
    return {memory_, offset_ + i * static_cast<ptrdiff_t>(sizeof(T))};
  }
  SharedPointer operator+(ptrdiff_t i) const {
    return {memory_, offset_ + i * static_cast<ptrdiff_t>(sizeof(T))};
  }
  testing::CudaSharedMemory& memory() const { return *memory_; }
  ptrdiff_t offset() const { return offset_; }

 private:
  testing::CudaSharedMemory* memory_;
  ptrdiff_t offset_;
};

template <typename T, int kCount>
class Shared {
 public:
  // `file` and `line` are the place of the declaration.
  explicit Shared(const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : memory_(sizeof(T) * kCount, {file, line}) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  SharedElement<T> operator[](ptrdiff_t i) { return (*this + 0)[i]; }
  SharedPointer<T> operator+(ptrdiff_t i) { return SharedPointer<T>(&memory_, 0) + i; }

 private:
  testing::CudaSharedMemory memory_;
};

template <typename T>
SharedPointer<T> DynamicShared(int byte_offset = 0) {
  return {&testing::CudaDynamicShared(), byte_offset};
}

template <int kWidth, typename T>
Vec<T, kWidth> LoadVec(SharedPointer<T> from) {
  Vec<T, kWidth> to;
  constexpr size_t kStep = alignof(decltype(to));
  for (size_t i = 0; i < sizeof(to); i += kStep) {
    from.memory().Read(from.offset() + i, kStep, reinterpret_cast<char*>(&to) + i);
  }
  return to;
}

template <int kWidth, typename T>
void StoreVec(SharedPointer<T> to, const Vec<T, kWidth>& from) {
  constexpr size_t kStep = alignof(decltype(from));
  for (size_t i = 0; i < sizeof(from); i += kStep) {
    to.memory().Write(to.offset() + i, kStep, reinterpret_cast<const char*>(&from) + i);
  }
}

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_EMULATED_SHARED_H_
