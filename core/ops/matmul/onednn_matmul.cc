#include "core/ops/matmul/onednn_matmul.h"

#include <omp.h>

#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/ops/cpu/isa.h"
#include "glog/logging.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace strake::cpu {
namespace {

// The properties that a primitive is created for: a block of rows and columns of a product.
struct Key {
  int64_t rows, columns;
  int64_t m, n, k;  // of the whole product, whose matrices hold the block's
  bool transpose_a, transpose_b, accumulate, has_bias;
  DType input, output;

  auto Fields() const {
    return std::tie(rows, columns, m, n, k, transpose_a, transpose_b, accumulate, has_bias, input,
                    output);
  }
  bool operator==(const Key& other) const { return Fields() == other.Fields(); }
  template <typename H>
  friend H AbslHashValue(H h, const Key& key) {
    return H::combine(std::move(h), key.Fields());
  }
};

const dnnl::engine& Engine() {
  static const auto* const engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

// Describes `rows` x `columns` of a matrix that is stored with `stride` elements from one row to
// the next, or from one column to the next if it is stored transposed.
dnnl::memory::desc Describe(int64_t rows, int64_t columns, bool transpose, int64_t stride,
                            DType dtype) {
  using Desc = dnnl::memory::desc;
  const auto type =
      dtype == DType::kBf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  if (!transpose) return Desc({rows, columns}, type, {stride, 1});
  // A vector is the same in both orders, but oneDNN is sure to support the strides of this one.
  if (stride == 1) return Desc({rows, columns}, type, {columns, 1});
  return Desc({rows, columns}, type, {1, stride});
}

void* At(const void* matrix, DType dtype, int64_t index) {
  return static_cast<std::byte*>(const_cast<void*>(matrix)) + index * DTypeSize(dtype);
}

// oneDNN takes OpenMP's number of threads when it creates a primitive and when it executes one.
class ScopedOneOpenMpThread {
 public:
  ScopedOneOpenMpThread() { omp_set_num_threads(1); }
  ~ScopedOneOpenMpThread() { omp_set_num_threads(previous_); }
  ScopedOneOpenMpThread(const ScopedOneOpenMpThread&) = delete;
  ScopedOneOpenMpThread& operator=(const ScopedOneOpenMpThread&) = delete;

 private:
  const int previous_ = omp_get_max_threads();
};

// A primitive with its memory objects; later calls only change their addresses.
class Primitive {
 public:
  explicit Primitive(const Key& key)
      : a_(Describe(key.rows, key.k, key.transpose_a, key.transpose_a ? key.m : key.k, key.input),
           Engine(), DNNL_MEMORY_NONE),
        b_(Describe(key.k, key.columns, key.transpose_b, key.transpose_b ? key.k : key.n,
                    key.input),
           Engine(), DNNL_MEMORY_NONE),
        bias_(Describe(1, key.columns, false, key.columns, key.output), Engine(), DNNL_MEMORY_NONE),
        c_(Describe(key.rows, key.columns, false, key.n, key.output), Engine(), DNNL_MEMORY_NONE) {
    dnnl::primitive_attr attr;
    if (key.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1);
      attr.set_post_ops(sum);
    }
    using Desc = dnnl::matmul::desc;
    const Desc desc = key.has_bias
                          ? Desc(a_.get_desc(), b_.get_desc(), bias_.get_desc(), c_.get_desc())
                          : Desc(a_.get_desc(), b_.get_desc(), c_.get_desc());
    primitive_ = dnnl::matmul(dnnl::matmul::primitive_desc(desc, attr, Engine()));
  }

  // Uses the C interface, because the C++ one needs a hash map for each call.
  void Run(const dnnl::stream& stream, const Product& p, const MatmulRange& range) {
    const int64_t row = range.row_begin, column = range.column_begin;
    a_.set_data_handle(At(p.a, p.input, p.transpose_a ? row : row * p.k));
    b_.set_data_handle(At(p.b, p.input, p.transpose_b ? column * p.k : column));
    bias_.set_data_handle(p.bias != nullptr ? At(p.bias, p.output, column) : nullptr);
    c_.set_data_handle(At(p.c, p.output, row * p.n + column));
    const std::array<dnnl_exec_arg_t, 4> args = {{{DNNL_ARG_SRC, a_.get()},
                                                  {DNNL_ARG_WEIGHTS, b_.get()},
                                                  {DNNL_ARG_DST, c_.get()},
                                                  {DNNL_ARG_BIAS, bias_.get()}}};
    const int num_args = p.bias != nullptr ? 4 : 3;
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive_.get(), stream.get(), num_args, args.data());
    CHECK_EQ(status, dnnl_success) << "[matmul] dnnl_primitive_execute";
  }

 private:
  dnnl::memory a_, b_, bias_, c_;
  dnnl::matmul primitive_;
};

// One cache per thread, because a primitive's scratch memory belongs to the thread that created it.
class PrimitiveCache {
 public:
  static PrimitiveCache& OfThisThread() {
    static thread_local PrimitiveCache cache;
    return cache;
  }

  Primitive& Get(const Key& key) {
    const auto found = primitives_.find(key);
    if (found != primitives_.end()) return found->second;
    // Training has some dozen shapes, so the cache only fills with prompts of ever new lengths.
    if (primitives_.size() >= kMaxPrimitives) primitives_.clear();
    return primitives_.try_emplace(key, key).first->second;
  }

  const dnnl::stream& stream() const { return stream_; }

 private:
  static constexpr size_t kMaxPrimitives = 512;

  absl::flat_hash_map<Key, Primitive> primitives_;
  dnnl::stream stream_{Engine()};
};

}  // namespace

bool CanMultiply(DType input) {
  return input == DType::kF32 || (input == DType::kBf16 && CurrentIsa() == Isa::kAvx512);
}

void Multiply(const Product& p, const MatmulRange& range) {
  const ScopedOneOpenMpThread one_thread;
  PrimitiveCache& cache = PrimitiveCache::OfThisThread();
  cache
      .Get({range.row_end - range.row_begin, range.column_end - range.column_begin, p.m, p.n, p.k,
            p.transpose_a, p.transpose_b, p.accumulate, p.bias != nullptr, p.input, p.output})
      .Run(cache.stream(), p, range);
}

}  // namespace strake::cpu
