#include "data/blend.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// digits * 10^exponent.
struct Decimal {
  int64_t digits = 0;
  int exponent = 0;
};

// The shortest decimal that reads back as `value`, which is finite and above 0.
Decimal ShortestDecimal(double value) {
  char text[32];
  char* const end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific).ptr;
  Decimal decimal;
  char* at = text;
  bool after_point = false;
  for (; *at != 'e'; ++at) {
    if (*at == '.') {
      after_point = true;
      continue;
    }
    decimal.digits = decimal.digits * 10 + (*at - '0');
    decimal.exponent -= after_point ? 1 : 0;
  }
  at += at[1] == '+' ? 2 : 1;
  int exponent = 0;
  std::from_chars(at, end, exponent);
  decimal.exponent += exponent;
  return decimal;
}

// The weights as integers without a common divisor, if their sum is at most kMaxPeriod.
std::optional<std::vector<int64_t>> ExactCounts(absl::Span<const BlendSource> sources) {
  std::vector<Decimal> decimals;
  for (const BlendSource& source : sources) decimals.push_back(ShortestDecimal(source.weight));
  int least = decimals[0].exponent;
  for (const Decimal& decimal : decimals) least = std::min(least, decimal.exponent);
  std::vector<int64_t> counts;
  int64_t divisor = 0;
  for (const Decimal& decimal : decimals) {
    int64_t count = decimal.digits;
    for (int i = least; i < decimal.exponent; ++i) {
      if (__builtin_mul_overflow(count, int64_t{10}, &count)) return std::nullopt;
    }
    counts.push_back(count);
    divisor = std::gcd(divisor, count);
  }
  int64_t period = 0;
  for (int64_t& count : counts) {
    count /= divisor;
    if (count > Blend::kMaxPeriod) return std::nullopt;
    period += count;
  }
  if (period > Blend::kMaxPeriod) return std::nullopt;
  return counts;
}

// Integers of sum kMaxPeriod, by the largest remainders.
std::vector<int64_t> RoundedCounts(absl::Span<const BlendSource> sources) {
  double largest = 0, sum = 0;
  for (const BlendSource& source : sources) largest = std::max(largest, source.weight);
  for (const BlendSource& source : sources) sum += source.weight / largest;
  std::vector<int64_t> counts;
  std::vector<std::pair<double, size_t>> remainders;
  int64_t left = Blend::kMaxPeriod;
  for (size_t i = 0; i < sources.size(); ++i) {
    const double exact = sources[i].weight / largest / sum * double(Blend::kMaxPeriod);
    counts.push_back(static_cast<int64_t>(exact));
    remainders.emplace_back(std::floor(exact) - exact, i);
    left -= counts.back();
  }
  std::sort(remainders.begin(), remainders.end());
  for (int64_t i = 0; i < left; ++i) ++counts[remainders[i].second];
  return counts;
}

absl::Status CheckWeight(const BlendSource& source) {
  if (std::isfinite(source.weight) && source.weight > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the weight of source ", source.name, " is ", source.weight,
                   ", and must be a number above 0; leave out a source that is not wanted"));
}

absl::Status CheckHasSamples(const BlendSource& source, int64_t count) {
  if (count > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the weight of source ", source.name, ", ", source.weight, ", is less than one sample of ",
      Blend::kMaxPeriod, "; raise it, or leave the source out"));
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> Blend::CountsOf(absl::Span<const BlendSource> sources) {
  if (sources.empty() || static_cast<int64_t>(sources.size()) > kMaxPeriod) {
    return absl::InvalidArgumentError(
        absl::StrCat("a blend of ", sources.size(), " sources; give 1 to ", kMaxPeriod));
  }
  for (const BlendSource& source : sources) STRAKE_RETURN_IF_ERROR(CheckWeight(source));
  const auto exact = ExactCounts(sources);
  std::vector<int64_t> counts = exact.has_value() ? *exact : RoundedCounts(sources);
  int64_t divisor = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    STRAKE_RETURN_IF_ERROR(CheckHasSamples(sources[i], counts[i]));
    divisor = std::gcd(divisor, counts[i]);
  }
  for (int64_t& count : counts) count /= divisor;
  return counts;
}

absl::StatusOr<Blend> Blend::Create(absl::Span<const BlendSource> sources) {
  STRAKE_ASSIGN_OR_RETURN(std::vector<int64_t> counts, CountsOf(sources));
  std::vector<PlaceInPeriod> places = PlacesOf(counts);
  return Blend(std::move(counts), std::move(places));
}

// Sample k of a source of share w = c/P may come at times [floor(k/w), ceil((k+1)/w)). If all do,
// the source has less than 1 sample more or fewer than n*w among the first n. There is such an
// order: were samples divisible, each source could receive w at each time, and so sample k would be
// served within its times; windows that begin and end at integers allow whole samples then, too.
// For samples of one length the earliest end first finds an order where there is one.
std::vector<Blend::PlaceInPeriod> Blend::PlacesOf(const std::vector<int64_t>& counts) {
  const int64_t period = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  using Window = std::tuple<int64_t, int, int64_t>;  // begin or end, source, sample
  using Queue = std::priority_queue<Window, std::vector<Window>, std::greater<>>;
  Queue later, open;
  for (size_t s = 0; s < counts.size(); ++s) later.emplace(0, s, 0);
  std::vector<PlaceInPeriod> places;
  for (int64_t time = 0; time < period; ++time) {
    for (; !later.empty() && std::get<0>(later.top()) <= time; later.pop()) {
      const auto [begin, s, k] = later.top();
      open.emplace(((k + 1) * period + counts[s] - 1) / counts[s], s, k);
    }
    CHECK(!open.empty() && std::get<0>(open.top()) > time) << "[blend] no sample at " << time;
    const auto [end, s, k] = open.top();
    open.pop();
    places.push_back({s, static_cast<int32_t>(k)});
    later.emplace((k + 1) * period / counts[s], s, k + 1);
  }
  return places;
}

Blend::Place Blend::At(int64_t n) const {
  CHECK(n >= 0) << "[blend] sample " << n;
  const PlaceInPeriod& place = places_[n % period()];
  return {place.source, n / period() * counts_[place.source] + place.sample};
}

int64_t Blend::NumSamples(int source, int64_t n) const {
  CHECK(n >= 0 && source >= 0 && source < num_sources())
      << "[blend] source " << source << " of " << num_sources() << ", " << n << " samples";
  const auto is_of_source = [&](const PlaceInPeriod& place) { return place.source == source; };
  return n / period() * counts_[source] +
         std::count_if(places_.begin(), places_.begin() + n % period(), is_of_source);
}

}  // namespace strake
