#include "tests/layout_case.h"

#include "absl/strings/str_cat.h"
#include "core/testing/covering_array.h"
#include "tests/layout_model.h"

namespace strake::testing {
namespace {

// Largest first: the covering array then has the fewest rows.
enum Factor {
  kModel,
  kTp,
  kDp,
  kKvHeads,
  kVocab,
  kZero,
  kMicroBatches,
  kDocuments,
  kTied,
  kSequenceParallel,
  kDType,
  kThreads,
  kBuckets,
  kReduceDType,
  kLora,
  kPipeline,
  kContext,
  kNumFactors
};

constexpr int kTpSizes[] = {1, 2, 3, 4, 8};
constexpr int64_t kKvHeadCounts[] = {24, 12, 2, 1};
constexpr int64_t kVocabSizes[] = {48, 47, 50257};
constexpr int64_t kBucketBytes[] = {4000, 25 << 20};

// One stage, then two of each schedule.
struct PipelineLevel {
  int pp;
  PipelineKind schedule;
  int chunks = 1;
};
constexpr PipelineLevel kPipelines[] = {{1, PipelineKind::k1f1b},
                                        {2, PipelineKind::k1f1b},
                                        {2, PipelineKind::kZeroBubble},
                                        {2, PipelineKind::kGpipe},
                                        {2, PipelineKind::kInterleaved, 2}};

struct ContextLevel {
  int cp;
  ContextComm comm = ContextComm::kRing;
};
constexpr ContextLevel kContexts[] = {
    {1}, {2}, {2, ContextComm::kAllGather}, {3}, {3, ContextComm::kAllGather}};

LayoutCase FromLevels(const std::vector<int>& levels) {
  return {.model = LayoutModels()[levels[kModel]].name,
          .tied = levels[kTied] == 0,
          .num_kv_heads = kKvHeadCounts[levels[kKvHeads]],
          .vocab_size = kVocabSizes[levels[kVocab]],
          .lora_rank = 3 * levels[kLora],
          .num_layers = 2 * kPipelines[levels[kPipeline]].chunks,
          .documents = static_cast<DocumentMode>(levels[kDocuments]),
          .tp = kTpSizes[levels[kTp]],
          .dp = 1 + levels[kDp],
          .cp = kContexts[levels[kContext]].cp,
          .cp_comm = kContexts[levels[kContext]].comm,
          .pp = kPipelines[levels[kPipeline]].pp,
          .schedule = kPipelines[levels[kPipeline]].schedule,
          .chunks = kPipelines[levels[kPipeline]].chunks,
          .sequence_parallel = levels[kSequenceParallel] == 1,
          .zero = levels[kZero],
          .num_micro_batches = 1 + levels[kMicroBatches],
          .num_threads = 1 + levels[kThreads],
          .bucket_bytes = kBucketBytes[levels[kBuckets]],
          .reduce_in_bf16 = levels[kReduceDType] == 1,
          .dtype = levels[kDType] == 0 ? DType::kF64 : DType::kF32};
}

bool Possible(const FactorLevel& a, const FactorLevel& b) {
  if (a.factor > b.factor) return Possible(b, a);
  if (a.factor == kModel && b.factor == kKvHeads) {
    return LayoutModels()[a.level].grouped_heads || b.level == 0;
  }
  // The largest vocabulary takes most time, and has nothing to do with the layers.
  if (a.factor == kModel && b.factor == kVocab) {
    return a.level < 2 || kVocabSizes[b.level] < 50257;
  }
  // Several chunks need as many micro-batches as stages.
  if (a.factor == kMicroBatches && b.factor == kPipeline) {
    const PipelineLevel& pipeline = kPipelines[b.level];
    return pipeline.chunks == 1 || 1 + a.level >= pipeline.pp;
  }
  // Fewer ranks take less time. Three times three do not divide a sequence's tokens.
  if (a.factor == kTp && b.factor == kContext) {
    const int tp = kTpSizes[a.level], cp = kContexts[b.level].cp;
    return cp == 1 || (tp < 8 && tp * cp != 9);
  }
  if (a.factor == kDp && b.factor == kContext) return a.level < 2 || b.level == 0;
  // f64 is not reduced in bf16.
  if (a.factor == kDType && b.factor == kReduceDType) return a.level == 1 || b.level == 0;
  if (a.factor == kTp && b.factor == kKvHeads) {
    const int64_t ranks = kTpSizes[a.level], heads = kKvHeadCounts[b.level];
    return heads % ranks == 0 || ranks % heads == 0;
  }
  return true;
}

}  // namespace

ModelConfig LayoutCase::Model() const {
  ModelConfig c = FindLayoutModel(model).features;
  c.vocab_size = vocab_size;
  c.max_positions = kSeqLen + 1;
  c.hidden_size = 24;
  c.num_layers = num_layers;
  // Further layers are like those before.
  std::vector<int>& kinds = c.layer_attention_kinds;
  for (size_t i = 0; !kinds.empty() && kinds.size() < size_t(num_layers); ++i) {
    kinds.push_back(kinds[i]);
  }
  c.num_heads = num_heads;
  c.num_kv_heads = num_kv_heads;
  if (model == "gpt2") c.head_dim = c.hidden_size / num_heads;
  c.intermediate_size = 48;
  c.initializer_range = initializer_range;
  c.tie_word_embeddings = tied;
  if (lora_rank > 0) c.lora = {.rank = lora_rank, .alpha = 4};
  if (!lora_target.empty()) c.lora.targets = {lora_target};
  return c;
}

EngineOptions LayoutCase::Options() const {
  return {.model = Model(),
          .seq_len = kSeqLen,
          .micro_batch = micro_batch,
          .num_threads = num_threads,
          .op_set = dtype == DType::kF64 ? OpSet::kReference : OpSet::kAuto,
          .dtype = dtype,
          .device = device,
          .sequence_parallel = sequence_parallel,
          .context_comm = cp_comm,
          .gradients = {.zero = zero,
                        .bucket_bytes = bucket_bytes,
                        .reduce_in_bf16 = reduce_in_bf16,
                        .overlap = overlap},
          .documents = documents != DocumentMode::kConcat,
          .pipeline = {.kind = schedule,
                       .chunks = chunks,
                       .in_flight = in_flight,
                       .micro_batches = num_micro_batches},
          .activation_recompute = activation_recompute};
}

LayoutCase LayoutCase::OnOneRank() const {
  return {.model = model,
          .tied = tied,
          .num_heads = num_heads,
          .num_kv_heads = num_kv_heads,
          .vocab_size = vocab_size,
          .lora_rank = lora_rank,
          .lora_target = lora_target,
          .num_layers = num_layers,
          .initializer_range = initializer_range,
          .documents = documents,
          .micro_batch = GlobalBatch(),
          .dtype = dtype};
}

std::string LayoutCase::ToString() const {
  constexpr const char* kDocumentNames[] = {"", "_mask", "_pad"};
  return absl::StrCat(
      model, tied ? "_tied" : "_untied", "_kv", num_kv_heads, "_vocab", vocab_size,
      lora_rank > 0 ? absl::StrCat("_lora", lora_rank) : "", "_tp", tp, "_dp", dp,
      cp > 1 ? absl::StrCat("_cp", cp, "_", ContextCommName(cp_comm)) : "",
      pp > 1 ? absl::StrCat("_pp", pp, "_", PipelineKindName(schedule), chunks) : "",
      sequence_parallel ? "_sp" : "", "_zero", zero, "_micro", num_micro_batches,
      kDocumentNames[static_cast<int>(documents)], "_threads", num_threads, "_bucket", bucket_bytes,
      reduce_in_bf16 ? "_reduced_in_bf16" : "", "_", DTypeName(dtype),
      device == Device::kCuda ? "_cuda" : "");
}

std::vector<LayoutCase> CoveringLayoutCases() {
  std::vector<int> num_levels(kNumFactors, 2);
  num_levels[kModel] = static_cast<int>(LayoutModels().size());
  num_levels[kTp] = std::size(kTpSizes);
  num_levels[kDp] = 4;
  num_levels[kKvHeads] = std::size(kKvHeadCounts);
  num_levels[kVocab] = std::size(kVocabSizes);
  num_levels[kPipeline] = std::size(kPipelines);
  num_levels[kContext] = std::size(kContexts);
  num_levels[kZero] = num_levels[kMicroBatches] = num_levels[kDocuments] = 3;
  std::vector<LayoutCase> cases;
  for (const std::vector<int>& levels : CoveringArray(num_levels, Possible)) {
    cases.push_back(FromLevels(levels));
  }
  return cases;
}

}  // namespace strake::testing
