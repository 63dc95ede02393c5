// The options of a program: one table that reads flags and JSON, and prints help and settings.
//
//   OptionSet options("train");
//   options.Group("Optimizer");
//   options.Add("lr", &settings.lr, "peak learning rate", Range::Above(0));
//   options.Add("config", &config_path, "JSON file of options").FlagOnly();
//   STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
//
// To add an option to a program, add its row; nothing else depends on it.
#ifndef STRAKE_TOOLS_CLI_OPTIONS_H_
#define STRAKE_TOOLS_CLI_OPTIONS_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// Numbers from min to max; an open end is excluded.
struct Range {
  static Range AtLeast(double min) { return {min}; }
  static Range Above(double min) { return {min, kInfinity, true}; }
  static Range Between(double min, double max) { return {min, max}; }
  // [min, max)
  static Range HalfOpen(double min, double max) { return {min, max, false, true}; }

  bool Contains(double x) const {
    return (open_min ? x > min : x >= min) && (open_max ? x < max : x <= max);
  }
  // " >= 1", " in [0, 1)", or nothing where every number is allowed.
  std::string ToString() const;

  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double min = -kInfinity;
  double max = kInfinity;
  bool open_min = false;
  bool open_max = false;
};

// An option's value comes from its flag, else from JSON, else from its default: the variable's
// value when the option was added. The variables must outlive the set. Values are stored into them
// during parsing, so after an error some may have changed.
class OptionSet {
 public:
  class Option {
   public:
    // Excludes the option from JSON and ToJson(): for options that choose an action, not a setting.
    Option& FlagOnly() {
      flag_only_ = true;
      return *this;
    }
    // Allows text that is not UTF-8: for options that no JSON file must hold.
    Option& AnyBytes() {
      any_bytes_ = true;
      return *this;
    }

   private:
    friend class OptionSet;
    enum class Source { kDefault, kJson, kFlag };
    enum class Kind { kValue, kPath, kPathList };
    using Variable = std::variant<std::string*, int64_t*, double*, bool*>;

    nlohmann::json Value() const;
    // "an integer >= 1", "one of constant, linear".
    std::string Allowed() const;
    bool Allows(const nlohmann::json& value) const;
    // ", and byte 3 is not UTF-8" where that is what is wrong with a flag's text, else nothing.
    std::string InvalidByte(absl::string_view text) const;
    // The value with the home directory in place of ~ where it is a path.
    absl::StatusOr<nlohmann::json> InHome(nlohmann::json value) const;
    // Stores `value`, which is allowed.
    void Store(const nlohmann::json& value, Source source);

    std::string name_, help_, group_;
    Variable variable_;
    Range range_;
    std::vector<std::string> words_;  // the values that are allowed, if not all
    std::vector<std::string> suggestions_;
    std::string default_;  // as Help() prints it
    Source source_ = Source::kDefault;
    Kind kind_ = Kind::kValue;
    bool flag_only_ = false;
    bool any_bytes_ = false;
  };

  // `program` is its name in Help().
  explicit OptionSet(std::string program) : program_(std::move(program)) {}

  // Sets the heading of the options that follow.
  void Group(std::string heading) { group_ = std::move(heading); }

  // Adds an option. Names are words of a-z, 0-9 and _; numbers are finite. CHECKs that the name is
  // new, and not "help", "version" or "print_completion", which every program has.
  Option& Add(std::string name, bool* variable, std::string help);
  Option& Add(std::string name, int64_t* variable, std::string help, Range range = {});
  Option& Add(std::string name, double* variable, std::string help, Range range = {});
  // Adds a text option; if there are `words`, the value must be one of them.
  Option& Add(std::string name, std::string* variable, std::string help,
              std::vector<std::string> words = {});

  // Marks text options as paths, in which ~ at the beginning is the home directory, or as
  // comma-separated lists of paths with names or without: "~/a.txt,books:~/b". CHECKs that there
  // are options of these names.
  void Paths(const std::vector<std::string>& names);
  void PathLists(const std::vector<std::string>& names);

  // Takes the arguments that are no flags, in their order: before, between and after flags. They
  // are an error otherwise.
  void TakeWords(std::vector<std::string>* words) { words_ = words; }

  // Sets values that shells complete an option to, where others are allowed too: a model's presets,
  // beside paths.
  void Suggest(absl::string_view name, std::vector<std::string> words);

  // Sets what Help() shows as an option's default, where its variable's value stands for another
  // one: that which follows when no option is given. CHECKs that there is one of that name.
  void ShowDefault(absl::string_view name, std::string text);

  // Parses --name=value, --name value, --bool, --bool=false, --nobool; of a repeated flag the last
  // one counts. argv[0] is skipped. InvalidArgument, naming flag, value and what is allowed, for a
  // bad value, an unknown flag, and an argument that is not a flag, which begins with "-" where
  // there is TakeWords(). For an unknown one it says what the flag of another trainer is called
  // here (AnswerToForeignName()), or which name is near (NearestName()).
  absl::Status ParseFlags(int argc, const char* const* argv);

  // Parses a JSON object of options. Options that flags have set keep the flags' values.
  // InvalidArgument, as above and for bad JSON and duplicate keys; messages begin with `source`,
  // the file's name.
  absl::Status ParseJson(absl::string_view text, absl::string_view source);

  // True if the flags included -h, --help or --help=word.
  bool help_requested() const { return help_requested_; }
  // The word of --help=word; empty where there is none.
  const std::string& help_word() const { return help_word_; }
  // Usage, and every option under its group with its default, meaning and allowed values; of
  // --help=word those options alone whose name or meaning contains the word.
  std::string Help() const;

  // The shell of --print_completion: "bash" or "zsh", or empty.
  const std::string& completion_shell() const { return completion_shell_; }
  const std::string& program() const { return program_; }
  // What a shell needs to know of an option.
  struct Info {
    std::string name, help;
    bool is_bool = false;
    bool is_path = false;
    std::vector<std::string> words = {};
  };
  std::vector<Info> Infos() const;

  // The current values in the order of the table; ParseJson() reads them back.
  nlohmann::ordered_json ToJson() const;

  // The options that flags or JSON have set, without those of flags alone.
  std::vector<std::string> NamesSet() const;

  // Whether a flag or JSON set the option. CHECKs that there is one of that name.
  bool IsSet(absl::string_view name) const;

 private:
  Option& AddOption(std::string name, Option::Variable variable, std::string help);
  const Option* Find(absl::string_view name) const;
  Option* Find(absl::string_view name);
  // CHECKs that there is one.
  const Option& Get(absl::string_view name) const;
  absl::Status Unknown(absl::string_view name, absl::string_view prefix, bool in_json) const;
  absl::Status NotAFlag(absl::string_view argument) const;
  // Whether the flag is one that every program has.
  absl::StatusOr<bool> ParseCommonFlag(absl::string_view name,
                                       const std::optional<std::string>& text);
  static absl::Status StoreFlag(const std::string& text, Option* option);
  absl::Status ParseFlag(absl::string_view flag, const char* next, bool* used_next);
  bool IsInHelp(const Option& option) const;

  std::string program_;
  std::string group_;
  std::deque<Option> options_;
  std::vector<std::string>* words_ = nullptr;
  bool help_requested_ = false;
  std::string help_word_, completion_shell_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_OPTIONS_H_
