// Saving and loading the weights of GPT-2 124M, as they are in its files and as a model whose
// matrices are all stored transposed; bytes per second, fsync included. TMPDIR chooses the disk.
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/hf_checkpoint.h"

namespace strake {
namespace {

constexpr int64_t kWidth = 768;

void AddGpt2(ParameterArena& arena, bool transposed) {
  arena.Add({{"wte", kWidth}}, {50257, kWidth}, true);
  arena.Add({{"wpe", kWidth}}, {1024, kWidth}, true);
  for (int i = 0; i < 12; ++i) {
    const auto matrix = [&](const char* name, int64_t in, int64_t out) {
      arena.Add({{absl::StrCat(i, name), out, transposed}}, {in, out}, true);
    };
    arena.Add({{absl::StrCat(i, ".q"), kWidth, transposed},
               {absl::StrCat(i, ".k"), kWidth, transposed},
               {absl::StrCat(i, ".v"), kWidth, transposed}},
              {kWidth, 3 * kWidth}, true);
    matrix(".proj", kWidth, kWidth);
    matrix(".fc", kWidth, 4 * kWidth);
    matrix(".out", 4 * kWidth, kWidth);
  }
}

class Files {
 public:
  explicit Files(bool transposed) {
    const char* parent = std::getenv("TMPDIR");
    directory_ = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/checkpoint_XXXXXX");
    CHECK(mkdtemp(directory_.data()) != nullptr) << directory_;
    AddGpt2(arena, transposed);
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
  void Load() {
    const absl::Status status = LoadWeights(directory_, arena);
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
  Files files(state.range(0));
  for (auto _ : state) files.Load();
  state.SetBytesProcessed(state.iterations() * files.arena.values().num_bytes());
}
BENCHMARK(BM_Load)
    ->ArgName("transposed")
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace strake
