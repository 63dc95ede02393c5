// What checksums cost: the weights of GPT-2 124M are summed, saved with a flush to the disk, loaded
// from it, and compared with their manifest before that. Reports bytes of weights per second.
// TMPDIR chooses the disk.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmark/benchmark.h"
#include "core/base/crc32c.h"
#include "core/base/durable_file.h"
#include "core/base/file_descriptor.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "models/families/gpt2.h"
#include "models/transformer.h"
#include "train/run/manifest.h"

namespace strake {
namespace {

class Checkpoint {
 public:
  Checkpoint() : config_(*ModelPreset("gpt2-124m")), model_(config_, /*max_seq_len=*/1, &arena) {
    const char* parent = std::getenv("TMPDIR");
    directory = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/checkpoint_XXXXXX");
    CHECK(mkdtemp(directory.data()) != nullptr) << directory;
    CHECK(arena.Allocate(DType::kF32, false).ok());
    for (int64_t i = 0; i < arena.num_elements(); ++i) arena.values().data<float>()[i] = i % 1000;
    Save();
  }
  ~Checkpoint() {
    for (const char* file : {"/model.safetensors", "/manifest.json"}) {
      unlink((directory + file).c_str());
    }
    rmdir(directory.c_str());
  }

  void Save() const {
    const auto fetch = [&](int p, int) -> absl::StatusOr<Tensor> {
      return arena.records()[p].parameter.value;
    };
    const auto parts =
        SaveArrays(directory + "/model.safetensors", arena, {""}, DType::kF32, fetch);
    CHECK(parts.ok()) << parts.status();
    const Manifest manifest = {{"model.safetensors", *parts}};
    CHECK(WriteFileDurably(directory + "/manifest.json", ToJson(manifest)).ok());
  }
  // Takes the file out of the system's memory.
  void Forget() const {
    const FileDescriptor file(open((directory + "/model.safetensors").c_str(), O_RDONLY));
    CHECK(file.valid() && posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  }
  int64_t num_bytes() const { return arena.values().num_bytes(); }

  std::string directory;
  ParameterArena arena;

 private:
  const ModelConfig config_;
  const Transformer model_;
};

void Report(const Checkpoint& checkpoint, benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * checkpoint.num_bytes());
}

void BM_Checksum(benchmark::State& state) {
  const Checkpoint checkpoint;
  const absl::string_view bytes(static_cast<const char*>(checkpoint.arena.values().raw()),
                                checkpoint.num_bytes());
  for (auto _ : state) benchmark::DoNotOptimize(ExtendCrc32c(0, bytes));
  Report(checkpoint, state);
}
BENCHMARK(BM_Checksum)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_FlushedSave(benchmark::State& state) {
  const Checkpoint checkpoint;
  for (auto _ : state) checkpoint.Save();
  Report(checkpoint, state);
}
BENCHMARK(BM_FlushedSave)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_ColdLoad(benchmark::State& state) {
  Checkpoint checkpoint;
  const bool verifies = state.range(0) != 0;
  for (auto _ : state) {
    state.PauseTiming();
    checkpoint.Forget();
    state.ResumeTiming();
    if (verifies) CHECK(VerifyCheckpoint(checkpoint.directory).ok());
    const absl::Status loaded = LoadWeights(checkpoint.directory, kGpt2Family, checkpoint.arena);
    CHECK(loaded.ok()) << loaded;
  }
  Report(checkpoint, state);
}
BENCHMARK(BM_ColdLoad)
    ->ArgName("verifies")
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace strake
