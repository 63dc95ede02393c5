#include "data/blend.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<BlendSource> Sources(const std::vector<double>& weights) {
  std::vector<BlendSource> sources;
  for (const double weight : weights) {
    sources.push_back({.name = absl::StrCat("s", sources.size()), .weight = weight});
  }
  return sources;
}

Blend MakeBlend(const std::vector<double>& weights) {
  auto blend = Blend::Create(Sources(weights));
  EXPECT_TRUE(blend.ok()) << blend.status();
  return *std::move(blend);
}

// The definition: of the sources whose next sample may come at this time, the one whose next sample
// must come first. Scans all sources at each time, without a period.
class DefinitionOfBlend {
 public:
  explicit DefinitionOfBlend(const std::vector<int64_t>& counts)
      : counts_(counts),
        taken_(counts.size()),
        period_(std::accumulate(counts.begin(), counts.end(), int64_t{0})) {}

  Blend::Place Next() {
    int next = -1;
    for (size_t s = 0; s < counts_.size(); ++s) {
      const bool may_come = taken_[s] * period_ / counts_[s] <= time_;
      if (may_come && (next < 0 || End(s) < End(next))) next = static_cast<int>(s);
    }
    ++time_;
    return {next, taken_[next]++};
  }

 private:
  int64_t End(int s) const { return ((taken_[s] + 1) * period_ + counts_[s] - 1) / counts_[s]; }

  std::vector<int64_t> counts_, taken_;
  int64_t period_, time_ = 0;
};

// Counts of 1 to 12 sources, among them equal ones, one that is nearly all, and primes.
std::vector<std::vector<double>> ManyWeights() {
  std::vector<std::vector<double>> all = {
      {1},        {1, 1},          {7, 3},          {1, 1, 1},
      {997, 1},   {1, 997},        {5, 1, 1, 1, 1}, {2, 3, 5, 7, 11, 13},
      {500, 499}, {400, 300, 1, 2}};
  uint64_t state = 1;
  for (int i = 0; i < 200; ++i) {
    std::vector<double> weights;
    for (int s = 0; s < 1 + i % 12; ++s) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      weights.push_back(double(1 + (state >> 33) % (i % 3 == 0 ? 5 : 97)));
    }
    all.push_back(weights);
  }
  return all;
}

TEST(BlendTest, EveryPrefixIsExactToOneSample) {
  for (const std::vector<double>& weights : ManyWeights()) {
    const Blend blend = MakeBlend(weights);
    DefinitionOfBlend definition(blend.counts());
    std::vector<int64_t> seen(weights.size());
    const int64_t period = blend.period();
    for (int64_t n = 0; n < 2 * period + period / 2; ++n) {
      const Blend::Place place = blend.At(n);
      ASSERT_EQ(place, definition.Next()) << n;
      ASSERT_EQ(place.sample, seen[place.source]++) << n;
      for (size_t s = 0; s < weights.size(); ++s) {
        ASSERT_LT(std::abs(seen[s] * period - (n + 1) * blend.counts()[s]), period)
            << "source " << s << " of " << weights.size() << " among the first " << n + 1;
      }
    }
    for (size_t s = 0; s < weights.size(); ++s) {
      EXPECT_EQ(blend.NumSamples(s, 2 * period + period / 2), seen[s]);
      EXPECT_EQ(blend.NumSamples(s, 0), 0);
    }
  }
}

TEST(BlendTest, FarSamplesAreThoseOfTheFirstPeriod) {
  const Blend blend = MakeBlend({0.5, 0.3, 0.2});
  constexpr int64_t kPeriods = int64_t{1} << 50;
  for (int64_t n = 0; n < blend.period(); ++n) {
    const Blend::Place near = blend.At(n), far = blend.At(kPeriods * blend.period() + n);
    EXPECT_EQ(far.source, near.source);
    EXPECT_EQ(far.sample, near.sample + kPeriods * blend.counts()[near.source]);
  }
  EXPECT_EQ(blend.NumSamples(1, kPeriods * 10 + 10), kPeriods * 3 + 3);
}

TEST(BlendTest, DecimalsAreExact) {
  EXPECT_THAT(MakeBlend({0.7, 0.3}).counts(), ElementsAre(7, 3));
  EXPECT_THAT(MakeBlend({70, 30}).counts(), ElementsAre(7, 3));
  EXPECT_THAT(MakeBlend({0.1, 0.2, 0.7}).counts(), ElementsAre(1, 2, 7));
  EXPECT_THAT(MakeBlend({1.0 / 3, 1.0 / 3, 1.0 / 3}).counts(), ElementsAre(1, 1, 1));
  EXPECT_THAT(MakeBlend({0.3333, 0.6667}).counts(), ElementsAre(3333, 6667));
  EXPECT_THAT(MakeBlend({1.5e2, 2.5e1}).counts(), ElementsAre(6, 1));
  EXPECT_THAT(MakeBlend({999'999, 1}).counts(), ElementsAre(999'999, 1));
  EXPECT_THAT(MakeBlend({0.000001, 0.999999}).counts(), ElementsAre(1, 999'999));
  EXPECT_THAT(MakeBlend({1e300, 3e300}).counts(), ElementsAre(1, 3));
  EXPECT_THAT(MakeBlend({5e-324, 5e-324}).counts(), ElementsAre(1, 1));
  EXPECT_THAT(MakeBlend({0.25}).counts(), ElementsAre(1));
}

TEST(BlendTest, OtherWeightsAreWithinAMillionth) {
  for (const std::vector<double>& weights :
       std::vector<std::vector<double>>{{1.0 / 3, 2.0 / 3},
                                        {M_PI, M_E, M_SQRT2},
                                        {0.1234567, 0.8765433},
                                        {1e308, 1e308 / 3, 1e308 / 7},
                                        {1e-310, 1e-310 * M_PI},
                                        {1, 1e-6}}) {
    const Blend blend = MakeBlend(weights);
    double sum = 0;
    for (const double weight : weights) sum += weight / weights[0];
    EXPECT_LE(blend.period(), Blend::kMaxPeriod);
    for (size_t s = 0; s < weights.size(); ++s) {
      EXPECT_LT(std::abs(blend.share(s) - weights[s] / weights[0] / sum), 1.0 / Blend::kMaxPeriod)
          << weights[s];
    }
    for (const int64_t n : {1, 999, 123'456, 1'000'000}) {
      EXPECT_LT(std::abs(double(blend.NumSamples(0, n)) - double(n) / sum),
                1 + double(n) / Blend::kMaxPeriod)
          << n;
    }
  }
}

TEST(BlendTest, WeightsThatAreNoneAreNamed) {
  const auto error = [](const std::vector<double>& weights) {
    return std::string(Blend::Create(Sources(weights)).status().message());
  };
  EXPECT_THAT(error({1, 0}), AllOf(HasSubstr("source s1 is 0,"), HasSubstr("above 0")));
  EXPECT_THAT(error({0, 0}), HasSubstr("source s0 is 0,"));
  EXPECT_THAT(error({1, -0.5}), HasSubstr("source s1 is -0.5,"));
  EXPECT_THAT(error({std::nan(""), 1}), HasSubstr("source s0 is nan,"));
  EXPECT_THAT(error({1, std::numeric_limits<double>::infinity()}), HasSubstr("source s1 is inf,"));
  EXPECT_THAT(error({}), HasSubstr("0 sources"));
  EXPECT_THAT(error({1, 1e-9}),
              AllOf(HasSubstr("source s1, 1e-09,"), HasSubstr("one sample of 1000000")));
}

}  // namespace
}  // namespace strake
