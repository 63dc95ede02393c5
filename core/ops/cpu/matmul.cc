#include "core/ops/cpu/matmul.h"

#include <omp.h>

#include <array>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "glog/logging.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace strake::cpu {
namespace {

struct Key {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  int num_threads;  // oneDNN plans for the number that it finds when a primitive is made

  auto Fields() const {
    return std::tie(m, n, k, transpose_a, transpose_b, accumulate, num_threads);
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

// A matrix of `rows` x `columns`, or its transpose as it is stored. A vector is the same in both
// orders, and only the plain one is sure to have strides that oneDNN knows.
dnnl::memory::desc Describe(int64_t rows, int64_t columns, bool transpose) {
  using Desc = dnnl::memory::desc;
  const bool plain = !transpose || rows == 1 || columns == 1;
  return Desc({rows, columns}, dnnl::memory::data_type::f32,
              plain ? dnnl::memory::dims{columns, 1} : dnnl::memory::dims{1, rows});
}

// A primitive with its three memory objects, which only change where they point.
class Product {
 public:
  explicit Product(const Key& key)
      : a_(Describe(key.m, key.k, key.transpose_a), Engine(), DNNL_MEMORY_NONE),
        b_(Describe(key.k, key.n, key.transpose_b), Engine(), DNNL_MEMORY_NONE),
        c_(Describe(key.m, key.n, false), Engine(), DNNL_MEMORY_NONE) {
    dnnl::primitive_attr attr;
    if (key.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1);
      attr.set_post_ops(sum);
    }
    const dnnl::matmul::desc desc(a_.get_desc(), b_.get_desc(), c_.get_desc());
    primitive_ = dnnl::matmul(dnnl::matmul::primitive_desc(desc, attr, Engine()));
  }

  // Through the C interface: the C++ one wants a hash map for each call.
  void Run(const dnnl::stream& stream, const float* a, const float* b, float* c) {
    a_.set_data_handle(const_cast<float*>(a));
    b_.set_data_handle(const_cast<float*>(b));
    c_.set_data_handle(c);
    const std::array<dnnl_exec_arg_t, 3> args = {
        {{DNNL_ARG_SRC, a_.get()}, {DNNL_ARG_WEIGHTS, b_.get()}, {DNNL_ARG_DST, c_.get()}}};
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive_.get(), stream.get(), args.size(), args.data());
    CHECK_EQ(status, dnnl_success) << "[matmul] dnnl_primitive_execute";
  }

 private:
  dnnl::memory a_, b_, c_;
  dnnl::matmul primitive_;
};

// Ranks are threads, and a primitive's scratch memory belongs to the thread that made it: so one
// cache for each thread.
class ProductCache {
 public:
  static ProductCache& OfThisThread() {
    static thread_local ProductCache cache;
    return cache;
  }

  Product& Get(const Key& key) {
    const auto found = products_.find(key);
    if (found != products_.end()) return found->second;
    // Training has some dozen shapes. Only prompts of ever new lengths come here.
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.try_emplace(key, key).first->second;
  }

  const dnnl::stream& stream() const { return stream_; }

 private:
  static constexpr size_t kMaxProducts = 512;

  absl::flat_hash_map<Key, Product> products_;
  dnnl::stream stream_{Engine()};
};

}  // namespace

bool Matmul(const ThreadTeam& team, const float* a, const float* b, int64_t m, int64_t n, int64_t k,
            const MatmulOptions& options, float* c) {
  // The newest team of a thread set this at its construction; an older one may be used again.
  omp_set_num_threads(team.num_threads());
  ProductCache& cache = ProductCache::OfThisThread();
  cache
      .Get({m, n, k, options.transpose_a, options.transpose_b, options.accumulate,
            team.num_threads()})
      .Run(cache.stream(), a, b, c);
  return true;
}

}  // namespace strake::cpu
