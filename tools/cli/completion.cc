#include "tools/cli/completion.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The command is the first word: "data why RUN" is called by the name data.
std::string CommandOf(const OptionSet& options) {
  const std::string& program = options.program();
  return program.substr(0, program.find(' '));
}

// What an option's value is completed to.
std::vector<std::string> WordsOf(const OptionSet::Info& option) {
  return option.is_bool ? std::vector<std::string>{"true", "false"} : option.words;
}

// Bash splits --name=value at the = where that is in COMP_WORDBREAKS, as it is by default.
constexpr char kBashBegin[] = R"($function() {
  local cur=${COMP_WORDS[COMP_CWORD]} before= name= prefix=
  if ((COMP_CWORD > 1)); then before=${COMP_WORDS[COMP_CWORD - 1]}; fi
  COMPREPLY=()
  if [[ $cur == "=" ]]; then
    name=$before= cur=
  elif [[ $before == "=" ]]; then
    name=${COMP_WORDS[COMP_CWORD - 2]}=
  elif [[ $cur == --*=* ]]; then
    name=${cur%%=*}= prefix=$name cur=${cur#*=}
  elif [[ $before == --* && $cur != --* ]]; then
    name=$before
  fi
  local IFS=$'\n'
  case $name in
)";

constexpr char kBashEnd[] = R"(    *=) ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W $names -- "$cur")
      if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
      fi
      return ;;
  esac
  COMPREPLY=("${COMPREPLY[@]/#/$prefix}")
}
complete -F $function $command
)";

// After the name of what is true or false comes a value with a = alone.
std::string BashCase(const OptionSet::Info& option) {
  const std::string pattern =
      absl::StrCat("--", option.name, "=", option.is_bool ? "" : absl::StrCat("|--", option.name));
  std::string sources;
  if (const auto words = WordsOf(option); !words.empty()) {
    sources = absl::StrCat(" -W $'", absl::StrJoin(words, "\\n"), "'");
  }
  if (option.is_path) absl::StrAppend(&sources, " -f");
  std::string action = ":";
  if (!sources.empty()) {
    action = absl::StrCat("mapfile -t COMPREPLY < <(compgen", sources, " -- \"$cur\")");
  }
  if (option.is_path) absl::StrAppend(&action, "; compopt -o filenames 2>/dev/null");
  return absl::StrCat("    ", pattern, ") ", action, " ;;\n");
}

std::string BashScript(const OptionSet& options) {
  const std::string command = CommandOf(options);
  std::vector<std::string> names = {"--help", "--help=", "--version"};
  std::string cases;
  for (const OptionSet::Info& option : options.Infos()) {
    names.push_back(absl::StrCat("--", option.name, option.is_bool ? "" : "="));
    absl::StrAppend(&cases, BashCase(option));
  }
  return absl::StrReplaceAll(absl::StrCat(kBashBegin, cases, kBashEnd),
                             {{"$names", absl::StrCat("$'", absl::StrJoin(names, "\\n"), "'")},
                              {"$function", absl::StrCat("_strake_", command)},
                              {"$command", command}});
}

// Text between quotes in an argument of _arguments, where brackets and colons have a meaning.
std::string ZshText(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"'", "'\\''"}, {"\\", "\\\\"}, {":", "\\:"}, {"[", "("}, {"]", ")"}});
}

std::string ZshArgument(const OptionSet::Info& option) {
  const auto words = WordsOf(option);
  const std::string list = absl::StrCat("(", absl::StrJoin(words, " "), ")");
  std::string action = option.is_path ? "_files" : words.empty() ? " " : list;
  if (option.is_path && !words.empty()) {
    action = absl::StrCat(R"({_alternative "words\:word\:)", list, R"(" "files\:file\:_files"})");
  }
  return absl::StrCat("'--", option.name, option.is_bool ? "=-[" : "=[", ZshText(option.help), "]",
                      option.is_bool ? "::" : ":", option.name, ":", action, "'");
}

std::string ZshScript(const OptionSet& options) {
  const std::string command = CommandOf(options);
  std::vector<std::string> arguments = {
      "'(- *)-h[print the options]'",
      "'(- *)--help=-[print the options, or those about a word]::word: '",
      "'(- *)--version[print the version]'"};
  for (const OptionSet::Info& option : options.Infos()) arguments.push_back(ZshArgument(option));
  return absl::StrCat("#compdef ", command, "\n_strake_", command, "() {\n  _arguments \\\n    ",
                      absl::StrJoin(arguments, " \\\n    "), "\n}\ncompdef _strake_", command, " ",
                      command, "\n");
}

}  // namespace

std::string CompletionScript(const OptionSet& options, absl::string_view shell) {
  CHECK(shell == "bash" || shell == "zsh") << "[completion] unknown shell " << shell;
  return shell == "bash" ? BashScript(options) : ZshScript(options);
}

}  // namespace strake
