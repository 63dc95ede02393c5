#include "train/run/checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"
#include "core/base/durable_file.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "glog/logging.h"
#include "models/checkpoint/adapter_config.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/model_files.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/families.h"
#include "models/families/family.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/tensor/gather_parameter.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/stage_models.h"
#include "train/plan/memory_plan.h"
#include "train/run/manifest.h"

namespace strake {
namespace {

struct Stage {
  int index, count;
};

// The trained parameters of rank t of T of a stage, without memory.
void PlanParameters(const Engine& engine, const Stage& stage, int rank, int num_ranks,
                    ParameterArena* arena) {
  const bool lora = engine.options().model.lora.enabled();
  ParameterArena frozen, unused;
  const auto models = MakeStageModels(engine.options(), stage.count, stage.index,
                                      TensorParallel::Planned(rank, num_ranks),
                                      lora ? &frozen : arena, lora ? arena : &unused);
  PadBuckets(arena, engine.options().dtype, engine.mesh().gradient_group().size(),
             engine.options().gradients);
  arena->AllocateDryRun(engine.options().dtype);
}

// The trained parameters of the whole model on one rank, without memory.
void PlanWhole(const Engine& engine, ParameterArena* arena) {
  PlanParameters(engine, {.index = 0, .count = 1}, 0, 1, arena);
}

constexpr char kOptimizerFile[] = "optimizer.safetensors";
constexpr char kMasterSuffix[] = ".master";

std::string PathOf(const std::string& directory, const char* file) {
  return absl::StrCat(directory, "/", file);
}

// An array of optimizer.safetensors, over the ranges that this rank updates.
struct OptimizerArray {
  std::string suffix;
  std::vector<ArenaPart> parts;
};

std::vector<OptimizerArray> Moments(const AdamW& optimizer) {
  return {{".exp_avg", optimizer.Parts(optimizer.exp_avg())},
          {".exp_avg_sq", optimizer.Parts(optimizer.exp_avg_sq())}};
}

// The moments, and the masters of bf16 weights.
std::vector<OptimizerArray> OptimizerArrays(const AdamW& optimizer) {
  std::vector<OptimizerArray> arrays = Moments(optimizer);
  if (optimizer.masters().defined()) {
    arrays.push_back({kMasterSuffix, optimizer.Parts(optimizer.masters())});
  }
  return arrays;
}

std::vector<ArenaArray> ArenaArrays(const std::vector<OptimizerArray>& arrays) {
  std::vector<ArenaArray> parts;
  for (const OptimizerArray& array : arrays) {
    for (const ArenaPart& part : array.parts) {
      parts.push_back({array.suffix, part.values, part.begin});
    }
  }
  return parts;
}

absl::StatusOr<bool> HoldsMasters(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  return std::any_of(file.entries().begin(), file.entries().end(),
                     [](const auto& entry) { return absl::EndsWith(entry.name, kMasterSuffix); });
}

// Gathers parameters, one after the other, from all ranks on rank 0.
class Gatherer {
 public:
  explicit Gatherer(Engine& engine) : engine_(engine), parts_(engine.mesh().sizes().tp) {
    PlanWhole(engine, &whole_);
    const int num_ranks = static_cast<int>(parts_.size());
    const Stage own = {engine.mesh().coordinates().pp, engine.mesh().sizes().pp};
    for (int t = 0; t < num_ranks; ++t) PlanParameters(engine, own, t, num_ranks, &parts_[t]);
    FindPlaces();
    const GradientReducerOptions& options = engine.options().gradients;
    if (options.zero == 0 || engine.mesh().gradient_group().size() == 1) return;
    buckets_ = GradientBuckets(engine.parameters(), options.bucket_bytes);
    std::reverse(buckets_.begin(), buckets_.end());
  }

  const ParameterArena& whole() const { return whole_; }

  // Valid until the next call.
  absl::StatusOr<Tensor> Weights(int parameter) {
    return Gather(parameter, {}, engine_.parameters().values());
  }
  absl::StatusOr<Tensor> OptimizerState(int parameter, const OptimizerArray& array) {
    if (buckets_.empty()) return Gather(parameter, {}, array.parts[0].values);
    // A parameter lies in one bucket, and each rank of the gradient group has a part of that.
    if (!IsOnOwnStage(parameter)) return Gather(parameter, {}, array.parts[0].values);
    const int64_t offset = engine_.parameters().records()[places_[parameter].index].offset;
    const auto bucket = std::find_if(buckets_.begin(), buckets_.end(),
                                     [&](const ShardRange& each) { return each.Contains(offset); });
    CHECK(bucket != buckets_.end()) << "[checkpoint] no bucket has element " << offset;
    std::vector<ShardRange> ranges;
    const int num_ranks = engine_.mesh().gradient_group().size();
    for (int r = 0; r < num_ranks; ++r) ranges.push_back(BucketPart(*bucket, num_ranks, r));
    return Gather(parameter, ranges, array.parts[bucket - buckets_.begin()].values);
  }

 private:
  // The place of a parameter: a tied table is on the first stage.
  struct Place {
    int stage = -1, index = 0;
  };

  void FindPlaces() {
    std::map<std::string, Place> by_name;
    const int stages = engine_.mesh().sizes().pp;
    for (int stage = stages - 1; stage >= 0; --stage) {
      ParameterArena arena;
      PlanParameters(engine_, {stage, stages}, 0, 1, &arena);
      for (int i = 0; i < static_cast<int>(arena.records().size()); ++i) {
        by_name[arena.records()[i].name()] = {stage, i};
      }
    }
    for (const ParameterRecord& record : whole_.records()) {
      places_.push_back(by_name.at(record.name()));
    }
  }

  bool IsOnOwnStage(int parameter) const {
    return places_[parameter].stage == engine_.mesh().coordinates().pp;
  }

  absl::StatusOr<Tensor> Gather(int parameter, absl::Span<const ShardRange> ranges,
                                const Tensor& values) {
    const Place& place = places_[parameter];
    std::vector<const ParameterRecord*> parts;
    if (IsOnOwnStage(parameter)) {
      for (const ParameterArena& part : parts_) parts.push_back(&part.records()[place.index]);
    }
    return GatherParameter(engine_.mesh(), place.stage, parts, whole_.records()[parameter], ranges,
                           values, &memory_);
  }

  Engine& engine_;
  ParameterArena whole_;
  std::deque<ParameterArena> parts_;  // of this stage, by tensor-parallel rank
  std::vector<Place> places_;         // by parameter of the whole model
  std::vector<ShardRange> buckets_;   // ascending; none where each dp rank has the whole state
  DeviceMemory memory_;
};

// The calls that gather a checkpoint, which all ranks make in the same order.
class GatherCalls {
 public:
  explicit GatherCalls(Engine& engine)
      : gatherer_(engine),
        arrays_(OptimizerArrays(engine.optimizer())),
        num_parameters_(gatherer_.whole().records().size()),
        num_arrays_(arrays_.size()) {}

  const ParameterArena& whole() const { return gatherer_.whole(); }
  const std::vector<OptimizerArray>& optimizer_arrays() const { return arrays_; }

  absl::StatusOr<Tensor> Weights(int p) { return Make(p); }
  absl::StatusOr<Tensor> OptimizerState(int p, int array) {
    return Make(num_parameters_ + p * num_arrays_ + array);
  }

  // Makes those that have not been made: the other ranks wait in them.
  absl::Status MakeTheRest() {
    while (status_.ok() && next_ < num_parameters_ * (1 + num_arrays_)) (void)Make(next_);
    return status_;
  }

 private:
  absl::StatusOr<Tensor> Make(int call) {
    CHECK_EQ(call, next_++) << "[checkpoint] parameters are gathered in order";
    const int state = call - num_parameters_;
    auto values = state < 0
                      ? gatherer_.Weights(call)
                      : gatherer_.OptimizerState(state / num_arrays_, arrays_[state % num_arrays_]);
    status_ = values.status();
    return values;
  }

  Gatherer gatherer_;
  const std::vector<OptimizerArray> arrays_;
  const int num_parameters_, num_arrays_;
  int next_ = 0;
  absl::Status status_;  // of the last call
};

std::vector<std::string> SuffixesOf(const std::vector<OptimizerArray>& arrays) {
  std::vector<std::string> suffixes;
  for (const OptimizerArray& array : arrays) suffixes.push_back(array.suffix);
  return suffixes;
}

// The engine's part of a checkpoint. Fetches all weights, then the optimizer's arrays.
struct Contents {
  const ModelConfig& config;
  DType dtype;
  const ParameterArena& whole;
  const std::vector<std::string>& suffixes;
  FetchParameter weights, optimizer_state;
};

// The weights' files, or with LoRA the adapters'.
absl::StatusOr<Manifest> WriteWeights(const std::string& directory, const Contents& contents,
                                      const CheckpointFiles& files, FetchParameter weights) {
  if (!contents.config.lora.enabled()) {
    return SaveWeights(directory, contents.whole, FileDType(contents.dtype), weights,
                       files.max_weights_file_bytes);
  }
  Manifest manifest;
  STRAKE_ASSIGN_OR_RETURN(manifest[kAdapterWeightsFile],
                          SaveArrays(PathOf(directory, kAdapterWeightsFile), contents.whole, {""},
                                     contents.dtype, weights));
  return manifest;
}

// Names all modules, since "all-linear" is more to some versions of PEFT.
std::string AdapterConfigText(const ModelConfig& model, const std::string& base_model) {
  AdapterConfig config = {.lora = model.lora, .base_model = base_model};
  if (config.lora.targets.empty()) config.lora.targets = AdapterModules(model);
  return ToAdapterConfig(config, /*fan_in_fan_out=*/!model.family->tensors.transposed);
}

// Tells how many bytes of the contents have been fetched. What is fetched is written before the
// next is.
class FetchTeller {
 public:
  FetchTeller(const Contents& contents, const OnWork& on_work)
      : contents_(contents), on_work_(on_work) {
    const size_t state_bytes =
        contents.suffixes.size() * DTypeSize(AccumulationDType(contents.dtype));
    for (const ParameterRecord& record : contents.whole.records()) {
      total_ += double(record.num_elements()) * double(DTypeSize(contents.dtype) + state_bytes);
    }
  }

  absl::StatusOr<Tensor> Weights(int parameter, int array) {
    return Tell(contents_.weights, parameter, array);
  }
  absl::StatusOr<Tensor> OptimizerState(int parameter, int array) {
    return Tell(contents_.optimizer_state, parameter, array);
  }

 private:
  absl::StatusOr<Tensor> Tell(FetchParameter fetch, int parameter, int array) {
    if (on_work_ != nullptr) {
      on_work_(
          {.what = kWritingCheckpoint, .done = done_, .total = total_, .unit = WorkUnit::kBytes});
    }
    auto values = fetch(parameter, array);
    if (values.ok()) done_ += static_cast<double>(values->num_bytes());
    return values;
  }

  const Contents& contents_;
  const OnWork& on_work_;
  double done_ = 0, total_ = 0;
};

absl::Status WriteFiles(const std::string& directory, const Contents& contents,
                        const RunRecord& record, const CheckpointFiles& files,
                        const OnWork& on_work) {
  FetchTeller teller(contents, on_work);
  const auto weights = [&](int p, int array) { return teller.Weights(p, array); };
  const auto state = [&](int p, int array) { return teller.OptimizerState(p, array); };
  STRAKE_ASSIGN_OR_RETURN(Manifest manifest, WriteWeights(directory, contents, files, weights));
  const auto write_text = [&](const std::string& name, const std::string& text) {
    manifest[name] = {
        {.num_bytes = static_cast<int64_t>(text.size()), .crc32c = ExtendCrc32c(0, text)}};
    return WriteFileDurably(absl::StrCat(directory, "/", name), text);
  };
  const bool lora = contents.config.lora.enabled();
  STRAKE_RETURN_IF_ERROR(
      lora ? write_text(kAdapterConfigFile, AdapterConfigText(contents.config, files.base_model))
           : write_text("config.json", ToHfConfig(contents.config, contents.dtype)));
  STRAKE_RETURN_IF_ERROR(MakeFoldersOf(files.carried, directory));
  for (const auto& [name, text] : files.carried) {
    STRAKE_RETURN_IF_ERROR(write_text(name, text));
  }
  STRAKE_ASSIGN_OR_RETURN(manifest[kOptimizerFile],
                          SaveArrays(PathOf(directory, kOptimizerFile), contents.whole,
                                     contents.suffixes, AccumulationDType(contents.dtype), state));
  STRAKE_RETURN_IF_ERROR(write_text("run.json", ToJson(record)));
  return WriteFileDurably(directory + "/manifest.json", ToJson(manifest));
}

// to = from, which may be on a GPU.
absl::Status CopyToHost(ThreadTeam& team, const Tensor& from, const Tensor& to) {
  if (from.device() != Device::kCpu) return CopyBlocking(from, to);
  constexpr int64_t kGrain = 1 << 16;
  const auto copy = [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to.raw()) + begin, static_cast<const char*>(from.raw()) + begin,
                end - begin);
  };
  team.ParallelFor(static_cast<int64_t>(from.num_bytes()), kGrain, copy);
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteCheckpoint(const std::string& directory, Engine& engine, const RunRecord& record,
                             const CheckpointFiles& files, const OnWork& on_work) {
  STRAKE_RETURN_IF_ERROR(engine.GatherWeights());
  GatherCalls calls(engine);
  absl::Status written;
  if (engine.mesh().rank() == 0 && !directory.empty()) {
    const std::vector<std::string> suffixes = SuffixesOf(calls.optimizer_arrays());
    written =
        WriteFiles(directory,
                   {.config = engine.options().model,
                    .dtype = engine.parameters().values().dtype(),
                    .whole = calls.whole(),
                    .suffixes = suffixes,
                    .weights = [&](int p, int) { return calls.Weights(p); },
                    .optimizer_state = [&](int p, int a) { return calls.OptimizerState(p, a); }},
                   record, files, on_work);
  }
  STRAKE_RETURN_IF_ERROR(calls.MakeTheRest());
  return written;
}

CheckpointSnapshot::CheckpointSnapshot(Engine& engine)
    : config_(engine.options().model),
      dtype_(engine.parameters().values().dtype()),
      suffixes_(SuffixesOf(OptimizerArrays(engine.optimizer()))) {
  PlanWhole(engine, &whole_);
}

absl::StatusOr<CheckpointSnapshot> CheckpointSnapshot::Create(Engine& engine) {
  CheckpointSnapshot snapshot(engine);
  STRAKE_ASSIGN_OR_RETURN(snapshot.memory_, HostMemory::Allocate(SnapshotBytes(engine.options())));
  char* next = static_cast<char*>(snapshot.memory_.data());
  const auto take = [&](const ParameterRecord& record, DType dtype) {
    const Tensor tensor(next, dtype, record.shape());
    next += tensor.num_bytes();
    return tensor;
  };
  // The wider elements come first, so that all are aligned.
  for (const ParameterRecord& record : snapshot.whole_.records()) {
    for (size_t i = 0; i < snapshot.suffixes_.size(); ++i) {
      snapshot.state_.push_back(take(record, AccumulationDType(snapshot.dtype_)));
    }
  }
  for (const ParameterRecord& record : snapshot.whole_.records()) {
    snapshot.weights_.push_back(take(record, snapshot.dtype_));
  }
  return snapshot;
}

absl::Status CheckpointSnapshot::Take(Engine& engine) {
  STRAKE_RETURN_IF_ERROR(engine.GatherWeights());
  GatherCalls calls(engine);
  const int num_parameters = static_cast<int>(whole_.records().size());
  const int num_arrays = static_cast<int>(suffixes_.size());
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    CHECK(from.num_elements() == to.num_elements() && from.dtype() == to.dtype())
        << "[checkpoint] " << from.ToString() << " to " << to.ToString();
    return CopyToHost(engine.team(), from, to);
  };
  for (int p = 0; p < num_parameters; ++p) {
    STRAKE_ASSIGN_OR_RETURN(const Tensor weights, calls.Weights(p));
    STRAKE_RETURN_IF_ERROR(copy(weights, weights_[p]));
  }
  for (int p = 0; p < num_parameters; ++p) {
    for (int array = 0; array < num_arrays; ++array) {
      STRAKE_ASSIGN_OR_RETURN(const Tensor state, calls.OptimizerState(p, array));
      STRAKE_RETURN_IF_ERROR(copy(state, StateOf(p, array)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointSnapshot::Write(const std::string& directory, const RunRecord& record,
                                       const CheckpointFiles& files, const OnWork& on_work) const {
  return WriteFiles(directory,
                    {.config = config_,
                     .dtype = dtype_,
                     .whole = whole_,
                     .suffixes = suffixes_,
                     .weights = [&](int p, int) { return weights_[p]; },
                     .optimizer_state = [&](int p, int array) { return StateOf(p, array); }},
                    record, files, on_work);
}

absl::Status LoadCheckpoint(const std::string& directory, Engine& engine, const OnWork& on_work) {
  const ModelConfig& config = engine.options().model;
  const auto load_weights = [&](const std::vector<ArenaArray>& arrays) {
    return config.lora.enabled()
               ? LoadAdapter(directory, engine.parameters(), arrays, on_work)
               : LoadWeights(directory, *config.family, engine.parameters(), arrays, on_work);
  };
  STRAKE_RETURN_IF_ERROR(load_weights({{/*suffix=*/"", engine.parameters().values()}}));
  STRAKE_RETURN_IF_ERROR(engine.optimizer().SetMasters());
  const std::string optimizer_file = PathOf(directory, kOptimizerFile);
  const AdamW& optimizer = engine.optimizer();
  // Holds all weights where there are no masters: a rank reads others' weights too.
  const std::vector<ArenaPart> unrounded =
      optimizer.masters().defined() ? optimizer.UnroundedWeights()
                                    : std::vector<ArenaPart>{{0, engine.parameters().values()}};
  std::vector<OptimizerArray> arrays = Moments(optimizer);
  STRAKE_ASSIGN_OR_RETURN(const bool holds_masters, HoldsMasters(optimizer_file));
  if (holds_masters) {
    arrays.push_back({kMasterSuffix, unrounded});
  } else if (optimizer.masters().defined()) {
    STRAKE_RETURN_IF_ERROR(load_weights(ArenaArrays({{/*suffix=*/"", unrounded}})));
  }
  return LoadArrays(optimizer_file, engine.parameters(), ArenaArrays(arrays), FileDTypes::kF32,
                    RenameWork("reading the optimizer's state", on_work));
}

}  // namespace strake
