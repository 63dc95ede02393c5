#include "parallel/tensor/gather_parameter.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;

// A weight of every kind, as a rank holds it.
class Model {
 public:
  Model(int rank, int num_ranks, int64_t num_kv_heads)
      : tp_(TensorParallel::Planned(rank, num_ranks)) {
    Add({{"table", 3}}, WeightShards::Vocab({5, 3}, 0, num_ranks, /*multiple=*/2));
    AddReplicatedParameter({{"norm", 70}}, {70}, tp_, ReplicatedGrad::kWhole, false, {}, &arena_);
    shards_.push_back(WeightShards::Replicated({70}, num_ranks));
    // Q, K and V of one tensor, and of three.
    const std::vector<ShardSegment> heads = QkvSegments(12, 12, 2);
    Add({{"attention", 72}}, *WeightShards::Split({3, 72}, 1, heads, num_ranks));
    Add({{"attention.bias", 72}}, *WeightShards::Split({72}, 0, heads, num_ranks));
    const int64_t kv = 2 * num_kv_heads;
    Add({{"q", 24, true}, {"k", kv, true}, {"v", kv, true}},
        *WeightShards::Split({3, 24 + 2 * kv}, 1, QkvSegments(12, num_kv_heads, 2), num_ranks));
    Add({{"gate", 24, true}, {"up", 24, true}},
        *WeightShards::Split({3, 48}, 1, GateUpSegments(24), num_ranks));
    Add({{"down", 5, true}}, *WeightShards::Split({24, 5}, 0, {{"rows", 24}}, num_ranks));
  }

  ParameterArena& arena() { return arena_; }
  const WeightShards& shards(int parameter) const { return shards_[parameter]; }

 private:
  void Add(const std::vector<ParameterSegment>& segments, const WeightShards& shards) {
    AddShardedParameter(segments, shards, tp_, true, {}, &arena_);
    shards_.push_back(shards);
  }

  const TensorParallel tp_;
  ParameterArena arena_;
  std::vector<WeightShards> shards_;
};

// The values of parameter `index` without padding: another integer for each element.
TensorBuffer FullValues(const Model& model, int index, DType dtype) {
  TensorBuffer full(dtype, model.shards(index).full_shape());
  for (int64_t i = 0; i < full.tensor().num_elements(); ++i) {
    SetElement(full, i, 1000 * (index + 1) + i);
  }
  return full;
}

// The values that a rank holds. NaN where another rank owns a slice: these must not be read.
TensorBuffer LocalValues(Model& model, int rank, DType dtype) {
  TensorBuffer values(dtype, {model.arena().num_elements()});
  int index = 0;
  for (const ParameterRecord& record : model.arena().records()) {
    const Tensor shard = values.tensor().Rows(record.offset, record.end()).Reshape(record.shape());
    model.shards(index).Slice(FullValues(model, index, dtype), rank, shard);
    int64_t column = 0;
    for (const ParameterSegment& segment : record.segments) {
      for (int64_t i = 0; i < shard.num_elements() && !segment.slice.owner; ++i) {
        const int64_t at = i % shard.dim(-1) - column;
        if (0 <= at && at < segment.columns) SetElement(shard, i, NAN);
      }
      column += segment.columns;
    }
    ++index;
  }
  return values;
}

// Boundaries anywhere, also inside rows; the middle one of three ranks may be empty.
std::vector<ShardRange> Ranges(int64_t num_elements, int num_ranks, int64_t seed) {
  std::vector<int64_t> bounds = {0, num_elements};
  for (int i = 1; i < num_ranks; ++i) {
    bounds.push_back(i == 2 ? bounds.back() : (seed * 101 + 67) % (num_elements + 1));
  }
  std::sort(bounds.begin(), bounds.end());
  std::vector<ShardRange> ranges;
  for (int i = 0; i < num_ranks; ++i) ranges.push_back({bounds[i], bounds[i + 1]});
  return ranges;
}

struct Layout {
  int tp, dp;
  int64_t num_kv_heads;
  bool sharded;  // over the gradient group
  DType dtype = DType::kF32;
  int cp = 1;

  MeshVector sizes() const { return {.dp = dp, .pp = 1, .cp = cp, .tp = tp}; }
};

// Gathers every parameter on rank 0 and compares it there; counts the comparisons.
absl::Status GatherAll(const Layout& layout, int64_t seed, const Mesh& mesh, int* num_compared) {
  const MeshVector at = mesh.coordinates();
  Model whole(0, 1, layout.num_kv_heads);
  std::vector<std::unique_ptr<Model>> models;
  for (int rank = 0; rank < layout.tp; ++rank) {
    models.push_back(std::make_unique<Model>(rank, layout.tp, layout.num_kv_heads));
  }
  Model& own = *models[at.tp];
  const TensorBuffer local = LocalValues(own, at.tp, layout.dtype);
  Tensor values = local;
  std::vector<ShardRange> ranges;
  const int rank_of_gradients = at.dp * layout.cp + at.cp;
  if (layout.sharded) {
    ranges = Ranges(own.arena().num_elements(), layout.dp * layout.cp, seed);
    values = values.Rows(ranges[rank_of_gradients].begin, ranges[rank_of_gradients].end);
  } else if (rank_of_gradients > 0) {
    FillConstant(values, NAN);
  }
  DeviceMemory memory;
  for (size_t i = 0; i < whole.arena().records().size(); ++i) {
    std::vector<const ParameterRecord*> parts(layout.tp, nullptr);
    for (int rank = 0; rank < layout.tp; ++rank) {
      if (mesh.rank() == 0 || rank == at.tp) parts[rank] = &models[rank]->arena().records()[i];
    }
    const ParameterRecord& record = whole.arena().records()[i];
    STRAKE_ASSIGN_OR_RETURN(const Tensor gathered, GatherParameter(mesh, /*stage=*/0, parts, record,
                                                                   ranges, values, &memory));
    EXPECT_EQ(gathered.defined(), mesh.rank() == 0);
    if (mesh.rank() != 0) continue;
    const TensorBuffer expected(layout.dtype, record.shape());
    whole.shards(i).Slice(FullValues(whole, i, layout.dtype), 0, expected);
    EXPECT_TRUE(SameBits(gathered, expected))
        << record.name() << ", tp " << layout.tp << ", dp " << layout.dp << ", cp " << layout.cp
        << ", kv " << layout.num_kv_heads << ", sharded " << layout.sharded << ", seed " << seed;
    ++*num_compared;
  }
  return absl::OkStatus();
}

void ExpectGathers(const Layout& layout, int64_t seed) {
  int num_compared = 0;
  const absl::Status status = RunOnThreads(layout.sizes(), {}, [&](const Mesh& mesh) {
    return GatherAll(layout, seed, mesh, &num_compared);
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(num_compared, 7);
}

TEST(GatherParameterTest, EveryLayoutGivesTheWhole) {
  for (const int64_t kv : {1, 2, 6}) {
    for (const int tp : {1, 2, 3, 4, 6}) {
      if (kv % tp != 0 && tp % kv != 0) continue;
      for (const int dp : {1, 2, 3}) ExpectGathers({tp, dp, kv, /*sharded=*/false}, 0);
    }
  }
}

TEST(GatherParameterTest, RangesMayEndAnywhere) {
  for (const int tp : {1, 2, 3, 4}) {
    for (const int dp : {1, 2, 3}) {
      for (int64_t seed = 0; seed < 6; ++seed) {
        ExpectGathers({tp, dp, /*num_kv_heads=*/1, /*sharded=*/true}, seed);
      }
    }
  }
}

TEST(GatherParameterTest, ContextParallelRanksShareTheRanges) {
  for (const auto& [dp, cp] : {std::pair{1, 2}, {2, 2}, {1, 3}, {3, 2}}) {
    for (const int tp : {1, 2}) {
      Layout layout = {tp, dp, /*num_kv_heads=*/1, /*sharded=*/false};
      layout.cp = cp;
      ExpectGathers(layout, 0);
      layout.sharded = true;
      for (int64_t seed = 0; seed < 6; ++seed) ExpectGathers(layout, seed);
    }
  }
}

TEST(GatherParameterTest, AnyDType) {
  ExpectGathers({2, 2, 2, true, DType::kF64}, 3);
  ExpectGathers({2, 2, 2, true, DType::kC128}, 3);
  // bf16 rounds the integers: the bits are still equal.
  ExpectGathers({2, 2, 2, true, DType::kBf16}, 3);
}

TEST(GatherParameterTest, OneRankCopiesNothing) {
  Model model(0, 1, 1);
  const TensorBuffer values = LocalValues(model, 0, DType::kF32);
  const ParameterRecord* record = &model.arena().records()[2];
  DeviceMemory memory;
  const auto gathered =
      GatherParameter(Mesh::SingleRank(), /*stage=*/0, {&record, 1}, *record, {}, values, &memory);
  ASSERT_TRUE(gathered.ok()) << gathered.status();
  EXPECT_EQ(gathered->raw(), values.tensor().data<float>() + record->offset);
  EXPECT_EQ(memory.num_bytes(), 0);
}

// Otherwise the other ranks' waits would time out while rank 0 saves a large model.
TEST(GatherParameterTest, NobodyRunsAheadOfRankZero) {
  constexpr int kNumCalls = 5;
  const MeshVector sizes = {2, 1, 1, 2};
  std::atomic<int> num_begun{0};
  const absl::Status status = RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
    Model whole(0, 1, 2), first(0, sizes.tp, 2), second(1, sizes.tp, 2);
    Model& own = mesh.coordinates().tp == 0 ? first : second;
    const TensorBuffer values = LocalValues(own, mesh.coordinates().tp, DType::kF32);
    const int norm = 1;  // which rank 0 has: nobody has anything to send
    const ParameterRecord* const parts[] = {&first.arena().records()[norm],
                                            &second.arena().records()[norm]};
    DeviceMemory memory;
    for (int call = 1; call <= kNumCalls; ++call) {
      if (mesh.rank() == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        num_begun = call;
      }
      STRAKE_RETURN_IF_ERROR(GatherParameter(mesh, /*stage=*/0, parts,
                                             whole.arena().records()[norm], {}, values, &memory)
                                 .status());
      EXPECT_GE(num_begun, call) << mesh.rank();
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(GatherParameterTest, TheErrorOfOneRankEndsTheOthers) {
  for (int failing = 0; failing < 4; ++failing) {
    int num_compared = 0;
    const absl::Status status =
        RunOnThreads({2, 1, 1, 2}, {}, [&](const Mesh& mesh) -> absl::Status {
          if (mesh.rank() == failing) return absl::DataLossError("gone");
          // A rank that has nothing more to send to a missing rank succeeds.
          return GatherAll({2, 2, 1, true}, 1, mesh, &num_compared);
        });
    EXPECT_EQ(status, absl::DataLossError("gone")) << failing;
  }
}

TEST(GatherParameterDeathTest, RangesCoverTheParameter) {
  Model model(0, 1, 1);
  const TensorBuffer values = LocalValues(model, 0, DType::kF32);
  const ParameterRecord* record = &model.arena().records()[0];
  const ShardRange range{1, 50};
  DeviceMemory memory;
  EXPECT_DEATH((void)GatherParameter(Mesh::SingleRank(), /*stage=*/0, {&record, 1}, *record,
                                     {&range, 1}, values.tensor().Rows(1, 50), &memory),
               "17 vs. 18.*the ranges' elements of table \\[6, 3\\]");
}

}  // namespace
}  // namespace strake
