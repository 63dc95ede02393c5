#include "train/report/step_line.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

namespace strake {
namespace {

constexpr double kNull = std::numeric_limits<double>::quiet_NaN();

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Scanner {
 public:
  explicit Scanner(absl::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  bool AtEnd() const { return at_ == end_; }

  bool Take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  // Takes a string of ASCII without escapes.
  bool TakeString(absl::string_view* text) {
    if (!Take('"')) return false;
    const char* const begin = at_;
    while (at_ < end_ && *at_ != '"') {
      const char c = *at_++;
      if (c < ' ' || c > '~' || c == '\\') return false;
    }
    *text = absl::string_view(begin, at_ - begin);
    return Take('"');
  }

  bool TakeKey(absl::string_view* key) { return TakeString(key) && Take(':'); }

  bool TakeCount(int64_t* count) { return BeginsNumber() && *at_ != '-' && TakeNumberAs(count); }

  // NaN for null.
  bool TakeNumber(double* value) {
    if (BeginsNumber()) return TakeNumberAs(value);
    *value = kNull;
    return Take('n') && Take('u') && Take('l') && Take('l');
  }

 private:
  // Tells whether JSON allows the beginning of what from_chars() also reads.
  bool BeginsNumber() const {
    const char* at = at_;
    if (at < end_ && *at == '-') ++at;
    if (at == end_ || !IsDigit(*at)) return false;
    const bool zero = *at++ == '0';
    if (zero && at < end_ && IsDigit(*at)) return false;
    while (at < end_ && IsDigit(*at)) ++at;
    if (at == end_ || *at != '.') return true;
    return at + 1 < end_ && IsDigit(at[1]);
  }

  template <typename T>
  bool TakeNumberAs(T* value) {
    const char* const begin = at_;
    const auto read = std::from_chars(begin, end_, *value);
    at_ = read.ptr;
    // JSON takes "-0" for an integer, without a sign.
    return read.ec == std::errc() && absl::string_view(begin, at_ - begin) != "-0";
  }

  const char* at_;
  const char* end_;
};

// Takes the members of a source: {"tokens":160,"loss":10.8}.
bool TakeSource(Scanner* scanner, double* loss) {
  std::optional<double> found;
  if (!scanner->Take('{')) return false;
  do {
    absl::string_view key;
    double value = 0;
    if (!scanner->TakeKey(&key) || !scanner->TakeNumber(&value)) return false;
    if (key != "loss") continue;
    if (found.has_value()) return false;
    found = value;
  } while (scanner->Take(','));
  *loss = found.value_or(kNull);
  return scanner->Take('}');
}

bool TakeSources(Scanner* scanner, StepLine* line) {
  if (!line->sources.empty() || !scanner->Take('{')) return false;
  do {
    absl::string_view name;
    double loss = 0;
    if (!scanner->TakeKey(&name) || !TakeSource(scanner, &loss)) return false;
    for (const auto& [other, other_loss] : line->sources) {
      if (other == name) return false;
    }
    line->sources.emplace_back(name, loss);
  } while (scanner->Take(','));
  return scanner->Take('}');
}

// The index in StepLine::kKeys, which is `next` where a log was written in their order.
size_t IndexOf(absl::string_view key, size_t next) {
  constexpr auto& kKeys = StepLine::kKeys;
  if (next < kKeys.size() && key == kKeys[next]) return next;
  return std::find(kKeys.begin(), kKeys.end(), key) - kKeys.begin();
}

// `next`: the index of the key that comes next, mostly.
bool TakeMember(Scanner* scanner, bool* has_step, size_t* next, StepLine* line) {
  absl::string_view key;
  if (!scanner->TakeKey(&key)) return false;
  if (key == "sources") return TakeSources(scanner, line);
  if (key == "step") return !std::exchange(*has_step, true) && scanner->TakeCount(&line->step);
  double value = 0;
  // What makes the line one of another kind.
  if (key == "val_loss" || key == "eval_task" || !scanner->TakeNumber(&value)) return false;
  const size_t index = IndexOf(key, *next);
  if (index == line->numbers.size()) return true;
  if (line->numbers[index].has_value()) return false;
  line->numbers[index] = value;
  *next = index + 1;
  return true;
}

}  // namespace

bool ReadStepLine(absl::string_view text, int64_t max_step, StepLine* line) {
  line->numbers = {};
  line->sources.clear();
  Scanner scanner(text);
  bool has_step = false;
  size_t next = 0;
  if (!scanner.Take('{')) return false;
  do {
    if (!TakeMember(&scanner, &has_step, &next, line)) return false;
  } while (scanner.Take(','));
  return scanner.Take('}') && scanner.AtEnd() && has_step && line->step <= max_step &&
         line->numbers[StepLine::kLoss].has_value();
}

}  // namespace strake
