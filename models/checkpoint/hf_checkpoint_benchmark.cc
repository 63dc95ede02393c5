// Saves and loads the weights of GPT-2 124M, as they are in its files and with all matrices stored
// transposed, and loads one of several ranks' slices of them. Reports bytes of weights per second,
// fsync included. TMPDIR chooses the disk.
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/gpt2.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

constexpr int64_t kWidth = 768;

// Adds the parameters of the first of `num_ranks`.
void AddGpt2(ParameterArena& arena, bool transposed, int num_ranks) {
  const auto tp = TensorParallel::Planned(0, num_ranks);
  const auto add = [&](const std::vector<ParameterSegment>& segments, const WeightShards& shards) {
    AddShardedParameter(segments, shards, tp, true, {}, &arena);
  };
  add({{"wte", kWidth}}, WeightShards::Vocab({50257, kWidth}, 0, num_ranks));
  add({{"wpe", kWidth}}, WeightShards::Replicated({1024, kWidth}, num_ranks));
  for (int i = 0; i < 12; ++i) {
    const auto matrix = [&](const char* name, int64_t in, int64_t out, int dim) {
      const int64_t size = dim == 0 ? in : out;
      add({{absl::StrCat(i, name), out, transposed}},
          *WeightShards::Split({in, out}, dim, {{"units", size}}, num_ranks));
    };
    add({{absl::StrCat(i, ".q"), kWidth, transposed},
         {absl::StrCat(i, ".k"), kWidth, transposed},
         {absl::StrCat(i, ".v"), kWidth, transposed}},
        *WeightShards::Split({kWidth, 3 * kWidth}, 1, QkvSegments(12, 12, 64), num_ranks));
    matrix(".proj", kWidth, kWidth, 0);
    matrix(".fc", kWidth, 4 * kWidth, 1);
    matrix(".out", 4 * kWidth, kWidth, 0);
  }
}

class Files {
 public:
  explicit Files(bool transposed) {
    const char* parent = std::getenv("TMPDIR");
    directory_ = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/checkpoint_XXXXXX");
    CHECK(mkdtemp(directory_.data()) != nullptr) << directory_;
    AddGpt2(arena, transposed, 1);
    CHECK(arena.Allocate(DType::kF32, false).ok());
    for (int64_t i = 0; i < arena.num_elements(); ++i) arena.values().data<float>()[i] = i % 1000;
    Save();
  }
  ~Files() {
    unlink(Path().c_str());
    rmdir(directory_.c_str());
  }
  void Save() const {
    const absl::Status status = SaveArrays(Path(), arena, {{"", arena.values()}});
    CHECK(status.ok()) << status;
  }
  void LoadInto(ParameterArena& slices) const {
    const absl::Status status = LoadWeights(directory_, kGpt2Family, slices);
    CHECK(status.ok()) << status;
  }

  ParameterArena arena;

 private:
  std::string Path() const { return directory_ + "/model.safetensors"; }
  std::string directory_;
};

void BM_Save(benchmark::State& state) {
  Files files(state.range(0));
  for (auto _ : state) files.Save();
  state.SetBytesProcessed(state.iterations() * files.arena.values().num_bytes());
}
BENCHMARK(BM_Save)
    ->ArgName("transposed")
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void BM_Load(benchmark::State& state) {
  const Files files(state.range(0));
  ParameterArena slices;
  AddGpt2(slices, state.range(0), state.range(1));
  CHECK(slices.Allocate(DType::kF32, false).ok());
  files.LoadInto(slices);  // loads the memory of both sides
  for (auto _ : state) files.LoadInto(slices);
  state.SetBytesProcessed(state.iterations() * slices.values().num_bytes());
}
BENCHMARK(BM_Load)
    ->ArgNames({"transposed", "ranks"})
    ->ArgsProduct({{0, 1}, {1, 2, 4}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace strake
