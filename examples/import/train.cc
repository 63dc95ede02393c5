// Strake's trainer in a program of one's own: a Llama of two layers on bytes of a text, over two
// data-parallel ranks, and an observer that prints the loss. Exits 1 if the loss does not fall.
//
//   bazel run //:train [-- /absolute/path/of/a/text]
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "core/base/status_macros.h"
#include "models/families/llama.h"
#include "models/model_config.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/run/train_observer.h"
#include "train/run/trainer.h"
#include "train/run/trainer_options.h"

namespace {

using namespace strake;

constexpr MeshVector kTwoRanks = {.dp = 2, .pp = 1, .cp = 1, .tp = 1};

ModelConfig MyModel() {
  ModelConfig model = kLlamaFamily.new_config();
  model.vocab_size = 256;  // bytes
  model.max_positions = 64;
  model.hidden_size = 32;
  model.num_layers = 2;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  model.head_dim = 8;
  model.intermediate_size = 96;
  return model;
}

class LossPrinter : public TrainObserver {
 public:
  absl::Status OnStep(const StepMetrics& step) override {
    if (step.step == 1) first_loss_ = step.loss;
    last_loss_ = step.loss;
    if (step.step % 10 == 0) std::cout << "step " << step.step << "  loss " << step.loss << "\n";
    return absl::OkStatus();
  }

  absl::Status OnCheckpoint(const TrainCheckpoint& checkpoint) override {
    std::cout << "saved " << checkpoint.path << "\n";
    return absl::OkStatus();
  }

  // An observer's error ends the run on all ranks.
  absl::Status OnEnd(const TrainEnd& /*end*/) override {
    if (last_loss_ < 0.8 * first_loss_) return absl::OkStatus();
    return absl::InternalError("the loss did not fall");
  }

 private:
  double first_loss_ = 0, last_loss_ = 0;
};

absl::Status Train(const std::string& text, const std::string& directory) {
  const TrainerOptions options = {
      .engine = {.model = MyModel(), .seq_len = 32, .micro_batch = 2},
      .train_files = {text},
      .schedule = {.lr = 0.02, .warmup_steps = 5, .total_steps = 60},
      .directory = directory,
  };
  LossPrinter printer;
  return RunOnThreads(kTwoRanks, {}, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                            Trainer::Create(options, mesh, {&printer}));
    return trainer->Run().status();
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string directory = std::filesystem::temp_directory_path() / "strake_run_XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return 1;
  const absl::Status status = Train(argc > 1 ? argv[1] : "README.md", directory);
  std::filesystem::remove_all(directory);
  if (!status.ok()) std::cerr << "error: " << status << "\n";
  return status.ok() ? 0 : 1;
}
