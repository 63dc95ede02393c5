// Engine: one rank's model, optimizer and memory, and the steps that train them.
#ifndef STRAKE_TRAIN_ENGINE_ENGINE_H_
#define STRAKE_TRAIN_ENGINE_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/fingerprint.h"
#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/model_parts.h"
#include "models/transformer.h"
#include "optim/adamw.h"
#include "parallel/comm/communicator.h"
#include "parallel/context/context_parallel.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/data/weight_gather.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/partial_gradients.h"
#include "train/engine/cuda_step.h"
#include "train/engine/engine_options.h"
#include "train/engine/engine_pass.h"
#include "train/engine/stage_runner.h"

namespace strake {

// The memory that one rank allocates, to the byte.
struct MemoryPlan {
  size_t parameter_bytes = 0;
  size_t gradient_bytes = 0;
  size_t optimizer_bytes = 0;
  size_t activation_bytes = 0;
  size_t library_bytes = 0;  // cuBLASLt's workspace
  // The arenas that activation_bytes are: of passes and scratch and, of a pipeline's stage, one for
  // each pass in flight.
  std::vector<size_t> arena_bytes = {};
  size_t total_bytes() const {
    return parameter_bytes + gradient_bytes + optimizer_bytes + activation_bytes + library_bytes;
  }
};

// Used on the thread that made it. Every rank of the mesh makes one and calls the same functions in
// the same order; an error of a collective ends them all. A step:
//
//   AccumulateGradients() for each micro-batch, SumGradients(), Update(), Agree()
//
// A rank of a mesh with pipeline stages (pp) has the layers of its stage, and losses are those of
// the last stage until Agree(). AccumulateGradients() keeps micro-batches until the step's last
// one, and then does the passes of all in the order of the schedule.
//
// With ZeRO a rank updates its part of the weights. It gets the others' in the next step's first
// forward pass, which waits for them bucket by bucket, or in GatherWeights().
//
// On a GPU the host enqueues the whole step. It waits at the end of Update(), and in Agree() if it
// has not waited since; values that are not finite are detected there. From its second run on a
// pass is a CUDA graph, with options.cuda_graph and where every group can be captured.
class Engine {
 public:
  // Allocates everything, zeroed, as a dry run has planned it; the caller sets the weights. `mesh`
  // must outlive the engine. ResourceExhausted when there is no memory.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                        const Mesh& mesh);

  // Makes an engine without memory, on a Mesh::DryRun(). A step computes nothing; afterwards
  // memory_plan() is what it needs, and `recorder`, which may be null, has its calls
  // (train/engine/step_record.h).
  static std::unique_ptr<Engine> DryRun(const EngineOptions& options, const Mesh& mesh,
                                        OpRecorder* recorder);

  // tokens and targets are [B*T/C] i32, B <= micro_batch, T = seq_len, in host memory: this
  // data-parallel rank's sequences, the same on all its tensor-parallel ranks, and of them the
  // chunks (core/tensor/sequence_chunks.h) that this one of C context-parallel ranks holds. A
  // target of kNoTarget is in no loss. With options.documents, and only then, come the documents
  // that divide the whole sequences, with the positions of the rank's tokens in host memory. Adds
  // the losses, in nats, to the sum of Agree(), and the gradients of scale * (sum of the losses) to
  // the step's gradients, which begin as zeros. During the backward pass of the step's `last`
  // micro-batch gradients are summed over the mesh's gradient group.
  // InvalidArgument for a token outside the vocabulary, for a wrong target (CheckTargets()) and for
  // wrong documents (CheckDocuments()). On the CPU, Internal where the loss is not finite, naming
  // the first such tensor in execution order; the step cannot continue then.
  absl::Status AccumulateGradients(const Tensor& tokens, const Tensor& targets, double scale,
                                   bool last, const Documents& documents = {});

  // Computes the losses alone; the same errors. Does not communicate with data-parallel ranks.
  // CHECKs that no weights wait to be gathered.
  absl::Status EvaluateLoss(const Tensor& tokens, const Tensor& targets,
                            const Documents& documents = {});

  // Sums the gradients that tensor-parallel ranks share. Afterwards grads() are the gradients of
  // the whole model and batch.
  absl::Status SumGradients();

  // Clips the gradients, times grad_scale, by their global norm and updates the weights: with ZeRO
  // each rank's part, until they are gathered. grads() stay as they are. Returns the norm before
  // clipping. For the mean over the targets of a global batch, whose number no pass knows, each
  // pass has a scale of one over the batch's tokens, and grad_scale is its tokens over its targets:
  // the scale of a pass that is a CUDA graph cannot change. Where the norm is not finite, updates
  // nothing and returns Internal, naming the tensor. With the communicators' check mode, returns an
  // error where weights that ranks share have drifted apart. CHECKs that grad_scale is positive and
  // finite.
  absl::StatusOr<double> Update(const AdamWStep& step, double clip_norm, double grad_scale = 1);

  // With options.step_sequences: the sum of the losses of each whole sequence of the step, in the
  // order of AccumulateGradients(). Valid from Update() until the next step.
  absl::Span<const double> SequenceLosses() const;

  // Brings the weights of the last update to every rank, if no pass has done so yet. Every rank
  // calls it before any of them reads weights after an update: parameters(), model(),
  // model_parts(), EvaluateLoss().
  absl::Status GatherWeights();

  // The ranks' common knowledge at the end of a step: the losses since the last agreement, summed
  // over the ranks' tokens, and whether any rank wants to stop. `sums`, as many on every rank and
  // equal on those that differ in cp or tp alone, become the sums over data-parallel ranks.
  // Internal where the losses are not finite, naming a weight that is not finite.
  struct Agreement {
    double loss_sum = 0;
    bool stop = false;
  };
  absl::StatusOr<Agreement> Agree(bool stop, absl::Span<double> sums = {});

  // Returns DataLoss, naming the tensor, where weights that ranks share differ, frozen or not: call
  // it after loading, since ranks on several machines may have read different files. Gathers the
  // weights.
  absl::Status CompareReplicas();

  // The fingerprint (train/engine/arena_fingerprint.h) of the trained weights before any rounding
  // to bf16 and of the optimizer's moments: that of what a checkpoint holds. The same on every
  // rank, under every layout, and in bf16 as in f32. Call it between steps.
  absl::StatusOr<Fingerprint> StateFingerprint() const;

  const EngineOptions& options() const { return options_; }
  MemoryPlan memory_plan() const;
  const Mesh& mesh() const { return *mesh_; }
  // The model of a mesh without pipeline stages; CHECKs that it has none.
  const Transformer& model() const;
  // The parts of the model that this rank has, in its order: a stage's chunks, or all.
  const std::vector<std::unique_ptr<Transformer>>& models() const { return models_; }
  // The same with their links to other stages, to generate and to evaluate.
  ModelParts model_parts() const;
  // What is trained: with LoRA, the adapters alone. CHECKs that no weights wait to be gathered.
  ParameterArena& parameters();
  // With LoRA, the frozen weights below the adapters, which have neither gradients nor optimizer
  // state; else null.
  ParameterArena* base() { return options_.model.lora.enabled() ? &base_ : nullptr; }
  AdamW& optimizer() { return *optimizer_; }
  ThreadTeam& team() { return team_; }
  CudaContext* cuda() { return cuda_.get(); }  // null on the CPU
  Context& context() { return *context_; }

  // Why attention is slower than possible on this GPU; empty where it is not.
  const std::string& attention_note() const { return attention_note_; }

  // The gradients of the ranges of the parameters' index space that this rank updates, on the
  // engine's device.
  const std::vector<ArenaPart>& grads() const { return reducer_->grads(); }

  // The host memory that steps use: activations and the arrays of the parameters' index space, the
  // weights last. Empty for a GPU.
  std::vector<absl::Span<char>> HostArrays() const;

  // Reports ops, layers, collectives and the parts of a step from now on; null, the default,
  // reports none. Passes are no CUDA graphs meanwhile.
  void set_profile(OpProfile* profile);

  // The groups of more than one rank, for their counters.
  std::vector<const Communicator*> communicators() const;

 private:
  Engine(const EngineOptions& options, const Mesh& mesh);
  absl::Status UseCuda();
  absl::Status Allocate(const MemoryPlan& plan);
  void AllocateDryRun(OpRecorder* recorder);
  void MakeContext();
  void PlanAttention();
  void StartGather();
  // True without memory and without a GPU.
  bool dry_run() const { return mesh_->communicator(MeshAxis::kDp).dry_run(); }

  // Copies a micro-batch to the GPU, to the same place in every step.
  absl::StatusOr<TokenPlace> Upload(const Tensor& tokens, const Tensor& targets,
                                    const Documents& documents);
  bool has_stages() const { return mesh_->sizes().pp > 1; }
  // The tokens of a sequence that this rank has.
  int64_t local_seq_len() const { return cp_.chunks().NumLocal(options_.seq_len); }
  // A context-parallel rank always knows the positions of its tokens.
  bool has_positions() const { return options_.documents || cp_.size() > 1; }
  void MakeWholeSequences();
  Documents WholeSequences(int64_t num_tokens) const;
  absl::StatusOr<std::unique_ptr<StageRunner>> CreateStage(absl::Span<const size_t> arena_bytes);
  // Keeps a micro-batch until RunStage().
  absl::Status Queue(const Tensor& tokens, const Tensor& targets, double scale,
                     const Documents& documents);
  absl::Status RunStage();
  absl::Status EvaluateOnStage(const TokenPlace& batch);
  // Gives an error to the other ranks as their cause, who else see that messages were dropped.
  absl::Status TellStages(absl::Status status);
  StageBatch StageBatchAt(const TokenPlace& place, double scale) const;
  absl::Status SumTiedTable();
  // Runs a pass; on a GPU enqueues it or launches its CUDA graph.
  absl::Status RunPass(const EnginePass& pass);
  absl::Status Enqueue(const TrainPass& pass);
  absl::Status Enqueue(const EvaluatePass& pass);
  absl::Status Enqueue(const SumGradientsPass& pass);
  absl::Status Enqueue(const UpdatePass& pass);
  Tensor TensorAt(void* place, int64_t num_tokens) const;
  Documents DocumentsAt(const TokenPlace& place) const;
  absl::Status AddLoss(const Transformer& model, const Tensor& loss, const TransformerSaved& saved);
  absl::Status AllocateSequenceLosses();
  absl::Status SumSequences(const Tensor& loss);
  absl::Status KeepSequenceLosses(int64_t num_sequences);
  absl::Status ShareSequenceLosses();
  Communicator& AnyGroup() const;
  absl::StatusOr<const double*> StepValues();
  absl::Status CompareReplicas(const ParameterArena& arena);
  absl::Status CompareTiedTable();
  std::string FirstWeightNotFinite() const;
  absl::Status GradientError(double loss_sum, double norm) const;
  std::string FirstGradientNotFinite() const;
  absl::Status NonFiniteError(const std::string& what, const std::string& found) const;
  Tensor loss_sum() const { return step_values_.Rows(0, 1); }
  Tensor clip() const { return step_values_.Rows(1, 3); }
  void SetGradScale(double grad_scale);

  const EngineOptions options_;
  const Mesh* const mesh_;
  std::unique_ptr<CudaContext> cuda_;  // on a GPU; before what is on it
  const TensorParallel tp_;
  const ContextParallel cp_;
  ThreadTeam team_;
  ParameterArena base_;        // with LoRA, what is frozen; else empty
  ParameterArena parameters_;  // what is trained
  std::vector<std::unique_ptr<Transformer>> models_;
  std::optional<ActivationArena> activations_;
  std::optional<Context> context_;
  std::unique_ptr<GradientReducer> reducer_;
  std::optional<PartialGradients> partial_gradients_;
  std::optional<AdamW> optimizer_;
  std::optional<WeightGather> weight_gather_;  // with ZeRO and more than one rank
  bool weights_wait_ = false;                  // updated, and not gathered

  DeviceBuffer step_memory_;
  Tensor step_values_;        // [3] f64: the losses' sum, gradient norm, clipping factor
  PinnedMemory host_values_;  // of those on a GPU
  Tensor grad_scale_;         // [1] f64, the input of an update
  PinnedMemory host_scale_;   // of it on a GPU
  bool values_fetched_ = false;
  bool in_step_ = false;  // gradients hold a micro-batch, and no update has come

  // With options_.step_sequences:
  DeviceBuffer pass_losses_memory_;
  Tensor pass_losses_;               // [micro_batch] f64: the sums of the last pass's sequences
  PinnedMemory pinned_losses_;       // of the step, on a GPU
  std::vector<double> host_losses_;  // on the CPU
  int64_t num_sequences_ = 0;        // of the step, so far

  // A pipeline's stage has:
  std::unique_ptr<StageRunner> stage_;
  struct QueuedBatch {
    std::vector<int32_t> tokens, targets, positions;  // on the CPU
    std::vector<int64_t> lengths;
    StageBatch batch;
  };
  std::deque<QueuedBatch> queue_;  // micro-batches of the step

  // Of several context-parallel ranks without options_.documents: a document per sequence.
  TensorBuffer whole_memory_;
  Tensor whole_positions_;  // [micro_batch * T/C] i32
  std::vector<int64_t> whole_lengths_;

  std::vector<BatchUpload> uploads_;            // of a micro-batch, or of each that waits
  absl::Span<const int64_t> document_lengths_;  // of the pass that runs, on the host
  PassGraphs graphs_;  // after partial_gradients_: graphs are destroyed before their groups
  std::string attention_note_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_ENGINE_H_
