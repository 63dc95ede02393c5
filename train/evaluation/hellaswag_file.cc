#include "train/evaluation/hellaswag_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

using Header = std::array<int32_t, 256>;
constexpr int32_t kMagic = 20240522, kVersion = 1;
constexpr int64_t kStartExample = 65535;

// The numbers of one example, in order.
class Example {
 public:
  Example(absl::string_view numbers, absl::string_view source, int64_t index)
      : numbers_(numbers), place_(absl::StrCat(source, ": example ", index)) {}

  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return absl::InvalidArgumentError(absl::StrCat(place_, " ", args...));
  }

  absl::StatusOr<int64_t> Next() {
    uint16_t number;
    if (numbers_.size() < sizeof(number)) return Bad("is cut off; write the file again");
    std::memcpy(&number, numbers_.data(), sizeof(number));
    numbers_.remove_prefix(sizeof(number));
    return number;
  }

  absl::StatusOr<std::vector<int32_t>> Tokens(int64_t vocab_size) {
    STRAKE_ASSIGN_OR_RETURN(const int64_t count, Next());
    if (count == 0) return Bad("has a context or choice of no tokens; write the file again");
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count; ++i) {
      STRAKE_ASSIGN_OR_RETURN(const int64_t token, Next());
      if (token >= vocab_size) {
        return Bad("holds token ", token, ", which is not below the vocabulary size ", vocab_size,
                   "; the file is for models with its vocabulary");
      }
      tokens.push_back(static_cast<int32_t>(token));
    }
    return tokens;
  }

  // Begins with the example's first number, and ends where it says. Returns what follows.
  absl::StatusOr<absl::string_view> CutToSize() {
    const absl::string_view all = numbers_;
    STRAKE_ASSIGN_OR_RETURN(const int64_t start, Next());
    STRAKE_ASSIGN_OR_RETURN(const int64_t num_bytes, Next());
    if (start != kStartExample) {
      return Bad("begins with ", start, ", not ", kStartExample, "; write the file again");
    }
    constexpr int64_t kRead = 2 * sizeof(uint16_t);
    if (num_bytes < kRead || num_bytes > static_cast<int64_t>(all.size())) {
      return Bad("has ", num_bytes, " bytes by its own account, and the file ", all.size(),
                 " from there; it is cut off or damaged, write it again");
    }
    numbers_ = all.substr(kRead, num_bytes - kRead);
    return all.substr(num_bytes);
  }

  bool done() const { return numbers_.empty(); }

 private:
  absl::string_view numbers_;
  const std::string place_;
};

ChoiceOption MakeOption(const std::vector<int32_t>& context, const std::vector<int32_t>& choice,
                        int64_t max_inputs, int64_t* num_truncated) {
  ChoiceOption option = {.ids = context, .length = static_cast<double>(choice.size())};
  option.ids.insert(option.ids.end(), choice.begin(), choice.end());
  const int64_t excess = static_cast<int64_t>(option.ids.size()) - (max_inputs + 1);
  if (excess > 0) {
    option.ids.erase(option.ids.begin(), option.ids.begin() + excess);
    ++*num_truncated;
  }
  option.first = static_cast<int64_t>(option.ids.size() - choice.size());
  return option;
}

absl::StatusOr<ChoiceExample> ParseExample(Example& in, int64_t index, int64_t vocab_size,
                                           int64_t max_inputs, int64_t* num_truncated) {
  STRAKE_ASSIGN_OR_RETURN(const int64_t number, in.Next());
  if (number != index) return in.Bad("has the number ", number, "; write the file again");
  ChoiceExample example;
  STRAKE_ASSIGN_OR_RETURN(example.answer, in.Next());
  STRAKE_ASSIGN_OR_RETURN(const int64_t num_choices, in.Next());
  if (example.answer >= num_choices) {
    return in.Bad("has the answer ", example.answer, ", and ", num_choices, " choices from 0 on");
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> context, in.Tokens(vocab_size));
  for (int64_t i = 0; i < num_choices; ++i) {
    STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> choice, in.Tokens(vocab_size));
    if (static_cast<int64_t>(choice.size()) > max_inputs) {
      return in.Bad("has a choice of ", choice.size(), " tokens, and the model takes at most ",
                    max_inputs);
    }
    example.options.push_back(MakeOption(context, choice, max_inputs, num_truncated));
  }
  if (!in.done()) return in.Bad("goes on after its choices; write the file again");
  return example;
}

absl::StatusOr<int64_t> NumExamples(absl::string_view content, absl::string_view source) {
  Header header;
  const auto bad = [source](const auto&... args) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", args...));
  };
  if (content.size() < sizeof(header)) {
    return bad("has ", content.size(), " bytes, and the header alone has ", sizeof(header),
               "; write it again");
  }
  std::memcpy(header.data(), content.data(), sizeof(header));
  if (header[0] != kMagic || header[1] != kVersion) {
    return bad("its magic number and version are ", header[0], " and ", header[1], ", not ", kMagic,
               " and ", kVersion, "; give llm.c's file of questions");
  }
  if (header[2] <= 0) return bad("holds ", header[2], " examples; write it again");
  return header[2];
}

}  // namespace

bool LooksLikeHellaSwagFile(absl::string_view beginning) {
  int32_t magic;
  if (beginning.size() < sizeof(magic)) return false;
  std::memcpy(&magic, beginning.data(), sizeof(magic));
  return magic == kMagic;
}

absl::StatusOr<ChoiceTask> ParseHellaSwagFile(absl::string_view content, absl::string_view source,
                                              int64_t vocab_size, int64_t max_inputs) {
  STRAKE_ASSIGN_OR_RETURN(const int64_t count, NumExamples(content, source));
  ChoiceTask task = {.name = std::string(source)};
  absl::string_view rest = content.substr(sizeof(Header));
  for (int64_t i = 0; i < count; ++i) {
    Example in(rest, source, i);
    STRAKE_ASSIGN_OR_RETURN(rest, in.CutToSize());
    STRAKE_ASSIGN_OR_RETURN(ChoiceExample example,
                            ParseExample(in, i, vocab_size, max_inputs, &task.num_truncated));
    task.examples.push_back(std::move(example));
  }
  if (rest.empty()) return task;
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", rest.size(), " bytes follow the ",
                                                 count, " examples; write it again"));
}

}  // namespace strake
