#include "core/ops/matmul/onednn_matmul.h"

#include <omp.h>

#include <array>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/ops/cpu/isa.h"
#include "glog/logging.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace strake::cpu {
namespace {

// The properties that a primitive is created for.
struct Key {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, has_bias;
  DType input, output;
  int num_threads;  // oneDNN plans for the number that it finds when it creates a primitive

  auto Fields() const {
    return std::tie(m, n, k, transpose_a, transpose_b, accumulate, has_bias, input, output,
                    num_threads);
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

// Describes a matrix of `rows` x `columns`, or its transpose, as it is stored. A vector is the same
// in both orders, but only the plain order is sure to have strides that oneDNN supports.
dnnl::memory::desc Describe(int64_t rows, int64_t columns, bool transpose, DType dtype) {
  using Desc = dnnl::memory::desc;
  using Type = dnnl::memory::data_type;
  const bool plain = !transpose || rows == 1 || columns == 1;
  return Desc({rows, columns}, dtype == DType::kBf16 ? Type::bf16 : Type::f32,
              plain ? dnnl::memory::dims{columns, 1} : dnnl::memory::dims{1, rows});
}

// A primitive with its memory objects; later calls only change their addresses.
class Primitive {
 public:
  explicit Primitive(const Key& key)
      : a_(Describe(key.m, key.k, key.transpose_a, key.input), Engine(), DNNL_MEMORY_NONE),
        b_(Describe(key.k, key.n, key.transpose_b, key.input), Engine(), DNNL_MEMORY_NONE),
        bias_(Describe(1, key.n, false, key.output), Engine(), DNNL_MEMORY_NONE),
        c_(Describe(key.m, key.n, false, key.output), Engine(), DNNL_MEMORY_NONE) {
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
  void Run(const dnnl::stream& stream, const Product& product) {
    a_.set_data_handle(const_cast<void*>(product.a));
    b_.set_data_handle(const_cast<void*>(product.b));
    bias_.set_data_handle(const_cast<void*>(product.bias));
    c_.set_data_handle(product.c);
    const std::array<dnnl_exec_arg_t, 4> args = {{{DNNL_ARG_SRC, a_.get()},
                                                  {DNNL_ARG_WEIGHTS, b_.get()},
                                                  {DNNL_ARG_DST, c_.get()},
                                                  {DNNL_ARG_BIAS, bias_.get()}}};
    const int num_args = product.bias != nullptr ? 4 : 3;
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive_.get(), stream.get(), num_args, args.data());
    CHECK_EQ(status, dnnl_success) << "[matmul] dnnl_primitive_execute";
  }

 private:
  dnnl::memory a_, b_, bias_, c_;
  dnnl::matmul primitive_;
};

// One cache per thread, because ranks are threads, and a primitive's scratch memory belongs to the
// thread that created it.
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

void Multiply(const ThreadTeam& team, const Product& p) {
  // The newest team of a thread set this at its construction, but an older one may be used again.
  omp_set_num_threads(team.num_threads());
  PrimitiveCache& cache = PrimitiveCache::OfThisThread();
  cache
      .Get({p.m, p.n, p.k, p.transpose_a, p.transpose_b, p.accumulate, p.bias != nullptr, p.input,
            p.output, team.num_threads()})
      .Run(cache.stream(), p);
}

}  // namespace strake::cpu
