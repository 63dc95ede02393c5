#include "train/report/step_line.h"

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
  explicit Scanner(absl::string_view text) : rest_(text) {}

  bool AtEnd() const { return rest_.empty(); }
  bool Next(char c) const { return !rest_.empty() && rest_.front() == c; }

  bool Take(char c) {
    if (!Next(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  // Of ASCII without escapes.
  bool TakeString(absl::string_view* text) {
    if (!Take('"')) return false;
    size_t size = 0;
    while (size < rest_.size() && rest_[size] != '"') {
      const char c = rest_[size++];
      if (c < ' ' || c > '~' || c == '\\') return false;
    }
    *text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return Take('"');
  }

  bool TakeKey(absl::string_view* key) { return TakeString(key) && Take(':'); }

  bool TakeCount(int64_t* count) {
    const absl::string_view number = Number();
    const char* const end = number.data() + number.size();
    const auto read = std::from_chars(number.data(), end, *count);
    return IsNumber(number) && number.front() != '-' && read.ec == std::errc() && read.ptr == end;
  }

  // NaN for null.
  bool TakeNumber(double* value) {
    if (rest_.substr(0, 4) == "null") {
      rest_.remove_prefix(4);
      *value = kNull;
      return true;
    }
    const absl::string_view number = Number();
    const char* const end = number.data() + number.size();
    const auto read = std::from_chars(number.data(), end, *value);
    return IsNumber(number) && read.ec == std::errc() && read.ptr == end;
  }

 private:
  // Takes the characters that numbers have.
  absl::string_view Number() {
    size_t size = 0;
    while (size < rest_.size() &&
           (IsDigit(rest_[size]) || rest_[size] == '.' || rest_[size] == '-' ||
            rest_[size] == '+' || rest_[size] == 'e')) {
      ++size;
    }
    const absl::string_view number = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return number;
  }

  // Whether JSON allows what from_chars() also reads.
  static bool IsNumber(absl::string_view number) {
    if (number == "-0") return false;  // an integer, without a sign
    if (!number.empty() && number.front() == '-') number.remove_prefix(1);
    if (number.empty() || !IsDigit(number.front())) return false;
    if (number.size() > 1 && number.front() == '0' && IsDigit(number[1])) return false;
    const size_t point = number.find('.');
    return point == number.npos || (point + 1 < number.size() && IsDigit(number[point + 1]));
  }

  absl::string_view rest_;
};

// Of a source: {"tokens":160,"loss":10.8}.
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

bool TakeMember(Scanner* scanner, bool* has_step, StepLine* line) {
  absl::string_view key;
  if (!scanner->TakeKey(&key)) return false;
  if (key == "sources") return TakeSources(scanner, line);
  if (key == "step") return !std::exchange(*has_step, true) && scanner->TakeCount(&line->step);
  double value = 0;
  // What makes the line one of another kind.
  if (key == "val_loss" || key == "eval_task" || !scanner->TakeNumber(&value)) return false;
  for (size_t i = 0; i < line->numbers.size(); ++i) {
    if (key != StepLine::kKeys[i]) continue;
    if (line->numbers[i].has_value()) return false;
    line->numbers[i] = value;
  }
  return true;
}

}  // namespace

bool ReadStepLine(absl::string_view text, int64_t max_step, StepLine* line) {
  line->numbers = {};
  line->sources.clear();
  Scanner scanner(text);
  bool has_step = false;
  if (!scanner.Take('{')) return false;
  do {
    if (!TakeMember(&scanner, &has_step, line)) return false;
  } while (scanner.Take(','));
  return scanner.Take('}') && scanner.AtEnd() && has_step && line->step <= max_step &&
         line->numbers[0].has_value();
}

}  // namespace strake
