#include "data/blend_loader.h"

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

absl::Status BlendLoader::Load(int64_t first_sample, int64_t count, Tensor tokens,
                               Tensor targets) const {
  const int64_t seq_len = loaders_[0].options().seq_len;
  CHECK(first_sample >= 0 && count >= 0 && tokens.shape() == Shape{count * seq_len} &&
        targets.shape() == tokens.shape())
      << "[blend_loader] " << count << " samples of " << seq_len << " from " << first_sample
      << ": tokens " << tokens.ToString() << ", targets " << targets.ToString();
  for (int64_t i = 0; i < count; ++i) {
    const Blend::Place place = blend_.At(first_sample + i);
    const int64_t begin = i * seq_len, end = begin + seq_len;
    STRAKE_RETURN_IF_ERROR(loaders_[place.source].Load(place.sample, 1, tokens.Rows(begin, end),
                                                       targets.Rows(begin, end)));
  }
  return absl::OkStatus();
}

}  // namespace strake
