#include "core/ops/attention/cached_attention_cpu.h"

#include "core/ops/attention/attention_scores_cpu.h"
#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Tokens of the cache processed at a time. Their keys stay in cache while the heads of a group use
// them, and all heads' keys of a token are neighbours in memory.
constexpr int64_t kBlock = 32;

// Floats of the scores of a query, and of the sums of its output, which come before them.
int64_t ScoresSize(int64_t num_keys) { return RoundUp(num_keys, kLanes); }
int64_t SumsSize(int64_t head_dim) { return RoundUp(head_dim, kLanes); }

template <typename T>
struct Heads {
  const AttentionInputs<T>& in;
  const AttentionShape& shape;
  int64_t past;
  float* scratch;  // [N, H, SumsSize + ScoresSize]

  int64_t num_keys() const { return past + shape.seq_len; }
  float* Sums(int64_t n, int64_t h) const {
    return scratch +
           (n * shape.num_heads + h) * (SumsSize(shape.head_dim) + ScoresSize(num_keys()));
  }
  float* Scores(int64_t n, int64_t h) const { return Sums(n, h) + SumsSize(shape.head_dim); }
  // Returns row `key` of the head of the cache that query head h reads.
  const T* CacheRow(const T* cache, int64_t h, int64_t key) const {
    const int64_t kv_head = h / (shape.num_heads / shape.num_kv_heads);
    return cache + key * in.kv_stride + kv_head * shape.head_dim;
  }

  // The keys that token n sees are [FirstKey(n), EndKey(n)).
  int64_t FirstKey(int64_t n) const { return shape.FirstKey(past + n); }
  int64_t EndKey(int64_t n) const { return past + n + 1; }

  // Calls body(n, h, first key, end) for heads [begin, end), where token n sees any of the block,
  // in the order in which the cache lies in memory.
  template <typename Body>
  void ForEachBlock(int64_t begin, int64_t end, const Body& body) const {
    for (int64_t key = FirstKey(0); key < num_keys(); key += kBlock) {
      for (int64_t h = begin; h < end; ++h) {
        for (int64_t n = 0; n < shape.seq_len; ++n) {
          const int64_t first = Max(key, FirstKey(n)), visible = Min(key + kBlock, EndKey(n));
          if (visible > first) body(n, h, first, visible);
        }
      }
    }
  }

  void Score(int64_t n, int64_t h, int64_t key, int64_t end) const {
    const T* query = in.q + n * in.q_stride + h * shape.head_dim;
    float* scores = Scores(n, h);
    for (; key < end; ++key) {
      const T* row = CacheRow(in.k, h, key);
      Vec sum{};
      ForEachVector(shape.head_dim, [&](int64_t d, auto part) {
        sum += Load(query + d, part) * Load(row + d, part);
      });
      scores[key] = Sum(sum);
    }
  }

  // Caps `count` products, which become scores. Returns the scale that is left to apply.
  float CapScores(float* scores, int64_t count) const {
    if (shape.score_softcap == 0) return shape.Scale();
    const Softcap cap(shape);
    const float scale = shape.Scale();
    ForEachVector(count, [&](int64_t j, auto part) {
      Store(cap(Load(scores + j, part) * scale), scores + j, part);
    });
    return 1;
  }

  // Normalizes the weights to sum 1.
  void Softmax(int64_t n, int64_t h) const {
    float* p = Scores(n, h) + FirstKey(n);
    const int64_t visible = EndKey(n) - FirstKey(n);
    const float scale = CapScores(p, visible);
    const Vec lowest = Broadcast(-__builtin_inff());
    Vec largest = lowest, sum{};
    ForEachVector(visible, [&](int64_t j, auto part) {
      largest = Max(largest, Masked(Load(p + j, part), part, lowest));
    });
    const float shift = Largest(largest);
    ForEachVector(visible, [&](int64_t j, auto part) {
      const Vec e = Masked(Exp((Load(p + j, part) - shift) * scale), part, Vec{});
      Store(e, p + j, part);
      sum += e;
    });
    const float inverse = 1 / Sum(sum);
    ForEachVector(visible,
                  [&](int64_t j, auto part) { Store(Load(p + j, part) * inverse, p + j, part); });
  }

  void AddValues(int64_t n, int64_t h, int64_t key, int64_t end) const {
    const float* p = Scores(n, h);
    ForEachVector(shape.head_dim, [&](int64_t d, auto part) {
      float* to = Sums(n, h) + d;
      Vec sum = key == FirstKey(n) ? Vec{} : Load(to, part);
      for (int64_t j = key; j < end; ++j) sum += p[j] * Load(CacheRow(in.v, h, j) + d, part);
      Store(sum, to, part);
    });
  }

  void StoreOutput(int64_t n, int64_t h, T* y) const {
    T* to = y + (n * shape.num_heads + h) * shape.head_dim;
    ForEachVector(shape.head_dim,
                  [&](int64_t d, auto part) { Store(Load(Sums(n, h) + d, part), to + d, part); });
  }
};

}  // namespace

int64_t CachedAttentionScratch(const AttentionShape& shape, int64_t past) {
  return shape.seq_len * shape.num_heads *
         (SumsSize(shape.head_dim) + ScoresSize(past + shape.seq_len));
}

template <typename T>
void CachedAttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape,
                            int64_t past, int64_t begin, int64_t end, float* scratch, T* y) {
  const Heads<T> heads{inputs, shape, past, scratch};
  const auto for_each_row = [&](const auto& body) {
    for (int64_t n = 0; n < shape.seq_len; ++n) {
      for (int64_t h = begin; h < end; ++h) body(n, h);
    }
  };
  heads.ForEachBlock(begin, end, [&](int64_t n, int64_t h, int64_t key, int64_t visible) {
    heads.Score(n, h, key, visible);
  });
  for_each_row([&](int64_t n, int64_t h) { heads.Softmax(n, h); });
  heads.ForEachBlock(begin, end, [&](int64_t n, int64_t h, int64_t key, int64_t visible) {
    heads.AddValues(n, h, key, visible);
  });
  for_each_row([&](int64_t n, int64_t h) { heads.StoreOutput(n, h, y); });
}

template void CachedAttentionForward(const AttentionInputs<float>&, const AttentionShape&, int64_t,
                                     int64_t, int64_t, float*, float*);
template void CachedAttentionForward(const AttentionInputs<Bf16>&, const AttentionShape&, int64_t,
                                     int64_t, int64_t, float*, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
