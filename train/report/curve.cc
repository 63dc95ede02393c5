#include "train/report/curve.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"

namespace strake {
namespace {

constexpr double kGap = std::numeric_limits<double>::quiet_NaN();

std::string Rounded(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  const auto end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::general, 7).ptr;
  return std::string(text, end);
}

void Append(const std::string& text, std::string* list) {
  absl::StrAppend(list, list->empty() ? "" : ",", text);
}

// Lists of a curve's points: the steps as differences.
struct PointLists {
  std::string steps, values;
  int64_t last_step = 0;

  void Add(int64_t step, double value) {
    Append(absl::StrCat(step - last_step), &steps);
    Append(JsonNumber(value), &values);
    last_step = step;
  }
};

struct MeanLists {
  std::string steps, means, counts;
  double last_step = 0;

  void Add(double step, double mean, int64_t count) {
    Append(JsonNumber(step - last_step), &steps);
    Append(Rounded(mean), &means);
    Append(absl::StrCat(count), &counts);
    last_step = step;
  }
};

}  // namespace

void Curve::Add(int64_t step, double value) {
  const bool finite = std::isfinite(value);
  const Part one = {.low = {step, finite ? value : kGap},
                    .high = {step, finite ? value : kGap},
                    .first = step,
                    .last = step,
                    .count = finite ? 1 : 0,
                    .sum = finite ? value : 0};
  const int64_t index = step / width_;
  // Most steps come in order, or from the last to the first.
  if (!parts_.empty() && parts_.begin()->first == index) return Merge(one, &parts_.begin()->second);
  if (!parts_.empty() && parts_.rbegin()->first == index) {
    return Merge(one, &parts_.rbegin()->second);
  }
  const auto [it, is_new] = parts_.try_emplace(index, one);
  if (!is_new) Merge(one, &it->second);
  while (num_parts() > kMaxParts) Widen();
}

void Curve::Merge(const Part& from, Part* part) {
  if (part->count == 0 || from.low.value < part->low.value) part->low = from.low;
  if (part->count == 0 || from.high.value > part->high.value) part->high = from.high;
  part->first = std::min(part->first, from.first);
  part->last = std::max(part->last, from.last);
  part->count += from.count;
  part->sum += from.sum;
}

void Curve::Widen() {
  width_ *= 2;
  std::map<int64_t, Part> wide;
  for (const auto& [index, part] : parts_) {
    const auto [it, is_new] = wide.try_emplace(index / 2, part);
    if (!is_new) Merge(part, &it->second);
  }
  parts_ = std::move(wide);
}

std::string Curve::JsonMembers(int max_parts) const {
  Curve shown = *this;
  while (shown.num_parts() > max_parts) shown.Widen();
  PointLists points;
  MeanLists means;
  for (const auto& [index, part] : shown.parts_) {
    const auto [first, second] = std::minmax(
        part.low, part.high, [](const Point& a, const Point& b) { return a.step < b.step; });
    points.Add(first.step, first.value);
    if (second.step != first.step) points.Add(second.step, second.value);
    const double count = static_cast<double>(part.count);
    means.Add((part.first + part.last) / 2.0, part.sum / count, part.count);
  }
  std::string json =
      absl::StrCat("\"steps\":[", points.steps, "],\"values\":[", points.values, "]");
  if (shown.width_ == 1) return json;
  absl::StrAppend(&json, ",\"mean_steps\":[", means.steps, "],\"means\":[", means.means,
                  "],\"counts\":[", means.counts, "]");
  return json;
}

}  // namespace strake
