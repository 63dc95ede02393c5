// Transformer: a decoder-only language model with the features of a ModelConfig.
//
//   N = B*T tokens in sequences of T, R of them on this rank (N, or with sequence parallelism N
//   over its ranks), C hidden size, V this rank's part of the padded vocabulary
//   embedding   tokens [N]       -> x [R, C]           scaled, plus learned positions, if any
//   layers      x -> AttentionBlock -> MlpBlock -> x, with its residual
//   norm        x [R, C] += residual -> h [R, C]       scaled as the logits are: they are h W^T
//   head, loss  h [R, C], targets -> loss [N]          nats per token, the same on every rank;
//               over chunks of tokens, so that logits [N, V] are never whole; tied: the head's
//               weight is the embedding table
//
//   Forward             all of this                                              to evaluate
//   ForwardForTraining  the same, and for each chunk of logits its gradient      to train
//                       at once: += into the head's weight, and dh [R, C]
//   Backward            from dh the other gradients of scale * sum(loss), += into the parameters,
//                       norm to embedding
//   BackwardInput       from dh the gradients of activations, to that of x [R, C] of the embedding
//   BackwardWeight      what is left of Backward, and of the head's weight where that waits
//
// A model may be a part of this: some consecutive layers, of which the first have the embedding
// before them and the last ones norm, head and loss behind them. Parts are the stages of a pipeline
// (parallel/pipeline/schedule.h).
//
//   forward passes      a part that is not the first begins with x [R, C], saved->input, and one
//                       that is not the last returns x [R, C], the stream with its residual
//   backward passes     a part that is not the last begins with the gradient [R, C] of what it
//                       returned, saved->output_grad, and one that is not the first leaves that of
//                       its input, saved->dx
//
// Their losses and gradients have the bits of the whole model's, except that the two copies of a
// tied table each have the gradient of their own use: it is the sum of both.
#ifndef STRAKE_MODELS_TRANSFORMER_H_
#define STRAKE_MODELS_TRANSFORMER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "core/memory/device_memory.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/norm.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/attention_block.h"
#include "models/head_loss.h"
#include "models/mlp_block.h"
#include "models/model_config.h"
#include "models/residual_stream.h"
#include "models/rope_tables.h"
#include "parallel/context/context_parallel.h"
#include "parallel/pipeline/stage_layers.h"
#include "parallel/tensor/tensor_parallel.h"
#include "parallel/tensor/vocab_parallel_embedding.h"

namespace strake {

// What the backward pass needs of one micro-batch; its tensors live in the activation arena.
struct TransformerSaved {
  Tensor tokens;  // [N]
  Tensor input;   // [R, C], set by the caller of a part that is not the first
  Tensor
      output_grad;  // [R, C], likewise of one that is not the last; the backward pass overwrites it
  int64_t seq_len = 0;
  Documents documents;
  std::deque<AttentionBlockSaved> attention;  // of the model's own layers
  std::deque<MlpBlockSaved> mlp;
  NormSaved norm;
  HeadLossSaved head;
  Tensor dx;  // [R, C], the gradient of the input, or of the embedding's output
};

class KvCache;

// What a token's position changes in the work of decoding it, at fixed addresses: so that a graph
// of that work serves all positions.
struct DecodePlace {
  DeviceBuffer past;                    // [1] (i32), the number of tokens in the cache
  std::vector<DeviceBuffer> rope_rows;  // [1, R] (f64) each, of RoPE's tables
  DeviceBuffer position_row;            // [1, C], of the learned positions; undefined without them
};

// InvalidArgument, with both numbers, where a model's heads or widths cannot be sharded over that
// many tensor-parallel ranks.
absl::Status CheckTensorParallel(const ModelConfig& config, int num_ranks);

class Transformer {
 public:
  // Adds this rank's parameters to `arena`, in forward order; the caller then allocates it, calls
  // PlaceTables() where it is on a GPU, and sets the weights. Sequences are of at most
  // `max_seq_len` tokens. The arena must outlive the model. CHECKs CheckTensorParallel().
  //
  // `part` are the layers of a part of the model; without it, all. Of a tied model, the last part
  // has a copy of the table, which counts on the first one (SegmentSlice::owner).
  //
  // With context parallelism passes with documents are of this rank's chunks: tokens, targets and
  // documents.positions, and seq_len is the number of its tokens of a sequence. Passes without
  // documents are of whole sequences, which the rank has alone, and so is generation.
  //
  // With config.lora the parameters in `arena` are frozen, and the caller allocates it without
  // gradients; the adapters' are added to `adapters`, which is then what is trained. CHECKs
  // CheckLora(), and that there is such an arena.
  Transformer(const ModelConfig& config, int64_t max_seq_len, ParameterArena* arena,
              const TensorParallel& tp = TensorParallel(),
              const LogitsChunk& logits_chunk = LogitsChunk(),
              ActivationRecompute recompute = ActivationRecompute::kNone,
              ParameterArena* adapters = nullptr, std::optional<LayerRange> part = std::nullopt,
              const ContextParallel& cp = ContextParallel());
  // Not copyable: layers point at each other's parameters.
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const ModelConfig& config() const { return config_; }
  const TensorParallel& tensor_parallel() const { return tp_; }
  const ContextParallel& context_parallel() const { return cp_; }
  // CHECKs is_last().
  const HeadLoss& head() const;

  const LayerRange& layers() const { return range_; }
  bool is_first() const { return range_.begin == 0; }
  bool is_last() const { return range_.end == config_.num_layers; }

  // The columns of the logits of all ranks: the vocabulary, then padding.
  int64_t padded_vocab_size() const;

  // The dtype of the parameters, which are allocated.
  DType dtype() const { return first_parameter_->value.dtype(); }
  Device device() const { return first_parameter_->value.device(); }

  // The attention shape of one of layers(), for this rank's heads.
  AttentionShape AttentionShapeFor(int64_t layer, int64_t num_tokens, int64_t seq_len) const {
    return layers_->attention[layer - range_.begin].ShapeFor(num_tokens, seq_len);
  }

  // Copies RoPE's angles to the parameters' device. ResourceExhausted when there is no memory.
  absl::Status PlaceTables() { return rope_tables_.PlaceOn(device()); }

  // Returns this rank's logits [N, V] of tokens [N] (i32) at once, allocated from ctx.arena(), in
  // the parameters' dtype.
  absl::StatusOr<Tensor> Logits(const Context& ctx, const Tensor& tokens, int64_t seq_len,
                                TransformerSaved* saved, const Documents& documents = {}) const;

  // Returns loss [N] of tokens and targets [N] (i32), f32 for bf16. Tensors in `saved` stay valid
  // until the caller's ActivationScope ends. InvalidArgument for a token or target outside the
  // vocabulary; on a GPU they are not checked: the caller does so before the copy (CheckTokens()).
  // Documents, where given, are those of the N tokens: attention and positions begin anew in each.
  // They outlive the backward pass, and CheckDocuments() says what their errors are.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& tokens, const Tensor& targets,
                                 int64_t seq_len, TransformerSaved* saved,
                                 const Documents& documents = {}) const;

  // The same, and computes the gradients of scale * sum(loss) in the head; Backward() adds the
  // others, once per `saved`. For the mean over a global batch, `scale` is one over its number of
  // tokens. With `head_kept`, a context like BackwardInput()'s, the gradient of the head's weight
  // waits for BackwardWeight().
  absl::StatusOr<Tensor> ForwardForTraining(const Context& ctx, const Tensor& tokens,
                                            const Tensor& targets, int64_t seq_len, double scale,
                                            TransformerSaved* saved,
                                            const Documents& documents = {},
                                            const Context* head_kept = nullptr) const;
  absl::Status Backward(const Context& ctx, TransformerSaved* saved) const;

  // Backward() in two passes, each once per `saved`. Between them, others of other micro-batches
  // may run. Gradients have Backward()'s bits where those of each weight are added in the same
  // order of micro-batches: with a tied head, that takes a `head_kept`. `kept` is the same as
  // `ctx`, with another arena, from which what BackwardWeight() needs is allocated: the gradients
  // that the weights' products read, and recomputed activations. It and the forward pass's tensors
  // must stay until then; ctx's arena is free again, and serves BackwardWeight() as scratch. Of
  // collectives, all but one are part of BackwardInput(), so that weight passes can fill any gap:
  // with sequence parallelism, the embedding gathers its gradient in BackwardWeight() rather than
  // keep it.
  absl::Status BackwardInput(const Context& ctx, const Context& kept,
                             TransformerSaved* saved) const;
  absl::Status BackwardWeight(const Context& ctx, TransformerSaved* saved) const;

  // Appends tokens [n] (i32) to the cache and returns the logits [1, vocabulary] after the last of
  // them, on every rank. CHECKs that the cache has room. With a `place`, for one token on a GPU,
  // the work depends on the number of tokens in the cache only through the place's contents.
  //
  // A part has a cache of its own layers. One that is not the first begins with `input` [n, C], and
  // one that is not the last returns x [n, C].
  absl::StatusOr<Tensor> Decode(const Context& ctx, const Tensor& tokens, KvCache* cache,
                                const DecodePlace* place = nullptr, const Tensor& input = {}) const;
  // Appends tokens of which each context-parallel rank has its two chunks, [n/C] (i32), to a cache
  // that all ranks have. Returns what a part that is not the last one returns of them, else an
  // undefined tensor.
  absl::StatusOr<Tensor> DecodeChunks(const Context& ctx, const Tensor& tokens, KvCache* cache,
                                      const Tensor& input = {}) const;
  // Appends token r of [R] (i32) to cache r, and returns the logits [R, padded_vocab_size()] after
  // each, on every rank; of parts, likewise. On the CPU, up to 8 sequences have the bits that each
  // has alone.
  absl::StatusOr<Tensor> DecodeEach(const Context& ctx, const Tensor& tokens,
                                    absl::Span<KvCache* const> caches,
                                    const Tensor& input = {}) const;
  // The longest sequence whose tokens in a cache are of no use as soon as it grows: RoPE's angles
  // are then others (RopeLongScaling). 0 where that does not happen.
  int64_t RopeChangesAfter() const { return rope_tables_.ChangesAfter(); }

  // A place on the parameters' device. ResourceExhausted when there is no memory.
  absl::StatusOr<DecodePlace> CreateDecodePlace() const;
  // Enqueues copies of the tables' rows for a token after `past` others to the place.
  absl::Status CopyTableRows(const Context& ctx, int64_t past, const DecodePlace& place) const;

 private:
  // In forward order, except the positions and the last norm.
  struct Layers {
    std::optional<VocabParallelEmbedding> embedding;  // of the first part
    std::deque<AttentionBlock> attention;
    std::deque<MlpBlock> mlp;
    std::optional<HeadLoss> head;  // of the last part
  };
  static Layers WithoutSequenceParallelism(const Layers& layers);

  absl::StatusOr<Tensor> EmbedTokens(const Context& ctx, const Layers& layers,
                                     const Tensor& tokens) const;
  // `positions` are [P, C], or undefined; row_positions those of x's rows, or undefined.
  absl::Status AddPositions(const Context& ctx, const Tensor& positions, int64_t period,
                            int64_t offset, const Tensor& x,
                            const Tensor& row_positions = {}) const;
  // Of the documents of `num_tokens` tokens, the positions of the R rows on this rank.
  Tensor LocalPositions(const Documents& documents, int64_t num_tokens, int64_t rows) const;
  // The learned positions, undefined without them.
  Tensor PositionTable() const {
    return position_table_ == nullptr ? Tensor() : position_table_->value;
  }
  // Returns the head's input [R, C]: the stream after the last norm, scaled.
  absl::StatusOr<Tensor> HeadInput(const Context& ctx, const ResidualStream& stream,
                                   NormSaved* saved) const;
  // The stream that the layers begin with.
  absl::StatusOr<Tensor> FirstStream(const Context& ctx, const TransformerSaved& saved) const;
  // Returns the head's input of tokens, or what a part that is not the last returns.
  absl::StatusOr<Tensor> Hidden(const Context& ctx, const Tensor& tokens, int64_t seq_len,
                                const Documents& documents, TransformerSaved* saved) const;
  // Returns x [R, C] of a part that is not the last, the stream with its residual.
  static absl::StatusOr<Tensor> SummedStream(const Context& ctx, const ResidualStream& stream);
  // CHECKs that the cache and the positions have room for `count` more tokens.
  void CheckRoom(const KvCache& cache, int64_t count) const;
  // Returns where some of `count` new tokens of a cache stand in the i-th of the part's layers.
  CachedSequence SequenceAt(const Context& ctx, int64_t i, const KvCache& cache, int64_t count,
                            const ShardRange& some, const DecodePlace* place) const;
  // Runs x, embedded tokens or a part's input, through the layers: `count` tokens for each cache,
  // which grows.
  absl::StatusOr<ResidualStream> RunCached(const Context& ctx, const Tensor& x, int64_t count,
                                           absl::Span<KvCache* const> caches,
                                           const DecodePlace* place) const;
  // Returns the logits [R, padded_vocab_size()] after rows of the stream, on every rank.
  absl::StatusOr<Tensor> GatheredLogits(const Context& ctx, const ResidualStream& stream) const;
  // dx [R, C], the gradient of the stream after a layer, becomes that of the stream before it. With
  // a null `kept`, weights' gradients are computed too, here and below.
  absl::Status BackwardLayer(const Context& ctx, const Context* kept, int64_t layer,
                             const Tensor& dx, TransformerSaved* saved) const;
  // Returns the gradient of the last norm's input, or a part's output_grad.
  absl::StatusOr<Tensor> BackwardHeadInput(const Context& ctx, const Context* kept,
                                           TransformerSaved* saved) const;
  // Returns the gradient of the first stream.
  absl::StatusOr<Tensor> BackwardStream(const Context& ctx, const Context* kept,
                                        TransformerSaved* saved) const;
  absl::Status BackwardLayerWeight(const Context& ctx, int64_t layer,
                                   const TransformerSaved& saved) const;
  // Overwrites dx.
  absl::Status BackwardEmbedding(const Context& ctx, const Tensor& dx,
                                 const TransformerSaved& saved) const;

  const ModelConfig config_;
  const TensorParallel tp_;
  const ContextParallel cp_;
  const LayerRange range_;
  RopeTables rope_tables_;
  const Parameter* first_parameter_ = nullptr;
  const Parameter* position_table_ = nullptr;  // null without learned positions
  std::optional<Norm> norm_;
  std::optional<Layers> layers_;
  std::optional<Layers> decode_layers_;  // the same without sequence parallelism
};

// Keys and values of one sequence, for generation: those of this rank's heads, in the dtype and on
// the device of the model's parameters.
class KvCache {
 public:
  // ResourceExhausted when there is no memory.
  static absl::StatusOr<KvCache> Create(const Transformer& model, int64_t max_tokens);
  // A cache without memory.
  static KvCache DryRun(const Transformer& model, int64_t max_tokens);

  int64_t length() const { return length_; }
  int64_t max_tokens() const { return max_tokens_; }
  // Its memory, or what it needs of a dry run's.
  size_t num_bytes() const;
  // Sets the length as if that many tokens had been appended: to rewind, and to plan for the
  // longest cache.
  void set_length(int64_t length) { length_ = length; }

 private:
  friend class Transformer;
  explicit KvCache(int64_t max_tokens) : max_tokens_(max_tokens) {}

  int64_t length_ = 0;
  int64_t max_tokens_;
  std::vector<DeviceBuffer> memory_;
  std::vector<Tensor> keys_, values_;  // per layer of the model's own [max_tokens, KV D]
};

}  // namespace strake

#endif  // STRAKE_MODELS_TRANSFORMER_H_
