// Blend: which source each sample of a stream of several sources is of, as a function.
//
//   weights w_s, of sum W: c_s / P = w_s / W, with integers c_s of sum P, the period
//   sample n of the stream = sample k of source s
//   |samples of source s among the first n - n * c_s / P| < 1, for all n and s
//
// A weight is the shortest decimal that reads back as its double: 0.7 is 7/10. Where the smallest
// P of these decimals is above kMaxPeriod, P is kMaxPeriod or a divisor of it, and c_s is w_s / W *
// P rounded down, or up for the largest remainders, so that c_s / P is less than 1 / kMaxPeriod
// from w_s / W.
//
// A query takes O(1), a blend O(P log(sources)) once and 8 P bytes. Source: Baruah, Cohen, Plaxton
// and Varvel, "Proportionate Progress", Algorithmica 15, 1996, for one resource, where the earliest
// deadline first suffices.
#ifndef STRAKE_DATA_BLEND_H_
#define STRAKE_DATA_BLEND_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace strake {

struct BlendSource {
  std::string name = {};  // for errors
  double weight = 0;
};

class Blend {
 public:
  static constexpr int64_t kMaxPeriod = 1'000'000;

  struct Place {
    int source = 0;
    int64_t sample = 0;  // among those of the source
    friend bool operator==(const Place&, const Place&) = default;
  };

  // An error names the source: a weight that is not finite and above 0, or that is no sample of
  // kMaxPeriod; and no sources, or more than kMaxPeriod.
  static absl::StatusOr<Blend> Create(absl::Span<const BlendSource> sources);

  // c_s, the samples of each source in a period: blends of equal counts are the same function. The
  // same errors.
  static absl::StatusOr<std::vector<int64_t>> CountsOf(absl::Span<const BlendSource> sources);

  // The place of sample n >= 0.
  Place At(int64_t n) const;

  // How many of the first n samples are of the source. O(P).
  int64_t NumSamples(int source, int64_t n) const;

  int num_sources() const { return static_cast<int>(counts_.size()); }
  int64_t period() const { return static_cast<int64_t>(places_.size()); }
  const std::vector<int64_t>& counts() const { return counts_; }
  double share(int source) const { return double(counts_[source]) / double(period()); }

 private:
  struct PlaceInPeriod {
    int32_t source, sample;
  };

  Blend(std::vector<int64_t> counts, std::vector<PlaceInPeriod> places)
      : counts_(std::move(counts)), places_(std::move(places)) {}
  static std::vector<PlaceInPeriod> PlacesOf(const std::vector<int64_t>& counts);

  std::vector<int64_t> counts_;
  std::vector<PlaceInPeriod> places_;  // of the samples of the first period
};

}  // namespace strake

#endif  // STRAKE_DATA_BLEND_H_
