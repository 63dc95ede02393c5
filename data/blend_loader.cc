#include "data/blend_loader.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

BlendLoader::BlendLoader(DataLoader loader)
    : BlendLoader(*Blend::Create({{.weight = 1}}), {std::move(loader)}) {}

BlendLoader::BlendLoader(Blend blend, std::vector<DataLoader> loaders)
    : blend_(std::move(blend)), loaders_(std::move(loaders)) {
  CHECK(static_cast<int>(loaders_.size()) == blend_.num_sources())
      << "[blend_loader] " << loaders_.size() << " loaders of " << blend_.num_sources()
      << " sources";
  for (const DataLoader& loader : loaders_) {
    CHECK(loader.options().seq_len == loaders_[0].options().seq_len)
        << "[blend_loader] samples of " << loaders_[0].options().seq_len << " and of "
        << loader.options().seq_len << " tokens";
  }
}

int64_t BlendLoader::num_samples() const {
  int64_t sum = 0;
  for (const DataLoader& loader : loaders_) sum += loader.num_samples();
  return sum;
}

double BlendLoader::Epochs(int source, int64_t num_samples) const {
  return double(blend_.NumSamples(source, num_samples)) / double(loaders_[source].num_samples());
}

bool BlendLoader::has_documents() const {
  return std::any_of(loaders_.begin(), loaders_.end(), [](const DataLoader& loader) {
    return loader.options().documents != DocumentMode::kConcat;
  });
}

absl::Status BlendLoader::Load(int64_t first_sample, int64_t count, TokenBatch* batch,
                               const SequenceChunks& chunks) const {
  const int64_t num_tokens = chunks.NumLocal(loaders_[0].options().seq_len);
  CHECK(first_sample >= 0 && count >= 0 && batch->tokens.shape() == Shape{count * num_tokens} &&
        batch->targets.shape() == batch->tokens.shape())
      << "[blend_loader] " << count << " samples of " << num_tokens << " from " << first_sample
      << ": tokens " << batch->tokens.ToString() << ", targets " << batch->targets.ToString();
  batch->lengths.clear();
  TokenBatch one;
  for (int64_t i = 0; i < count; ++i) {
    const Blend::Place place = blend_.At(first_sample + i);
    const int64_t begin = i * num_tokens, end = begin + num_tokens;
    one.tokens = batch->tokens.Rows(begin, end);
    one.targets = batch->targets.Rows(begin, end);
    if (batch->positions.defined()) one.positions = batch->positions.Rows(begin, end);
    STRAKE_RETURN_IF_ERROR(loaders_[place.source].Load(place.sample, 1, &one, chunks));
    batch->lengths.insert(batch->lengths.end(), one.lengths.begin(), one.lengths.end());
  }
  return absl::OkStatus();
}

absl::Status BlendLoader::Load(int64_t first_sample, int64_t count, Tensor tokens,
                               Tensor targets) const {
  TokenBatch batch = {.tokens = std::move(tokens), .targets = std::move(targets)};
  return Load(first_sample, count, &batch);
}

int64_t BlendLoader::NumTargets(int64_t first_sample, int64_t count) const {
  if (!has_documents()) return count * loaders_[0].options().seq_len;
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Blend::Place place = blend_.At(first_sample + i);
    sum += loaders_[place.source].NumTargets(place.sample, 1);
  }
  return sum;
}

}  // namespace strake
