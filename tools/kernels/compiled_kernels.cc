#include "tools/kernels/compiled_kernels.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <regex>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace strake {
namespace {

std::string Demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? demangled.get() : name;
}

// The number of bytes before `what`, or 0 where there are none.
int64_t NumberBefore(const std::string& line, const std::string& what) {
  std::smatch match;
  int64_t number = 0;
  if (std::regex_search(line, match, std::regex("(\\d+) " + what))) {
    (void)absl::SimpleAtoi(match[1].str(), &number);
  }
  return number;
}

void KeepLargest(const CompiledKernel& from, CompiledKernel& to) {
  to.registers = std::max(to.registers, from.registers);
  to.spill_bytes = std::max(to.spill_bytes, from.spill_bytes);
  to.shared_bytes = std::max(to.shared_bytes, from.shared_bytes);
}

}  // namespace

std::string ShortKernelName(absl::string_view name) {
  std::string text = absl::StrReplaceAll(
      Demangle(std::string(name)),
      {{"(anonymous namespace)::", ""}, {"{anonymous}::", ""}, {"cuda::", ""}, {"strake::", ""}});
  text.resize(std::min(text.size(), text.find('(')));
  return std::string(absl::StripPrefix(text, "void "));
}

// The lines of a kernel are, in this order:
//   ptxas info    : Compiling entry function 'NAME' for 'sm_90a'
//       0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
//   ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem
absl::StatusOr<CompiledKernels> ParsePtxas(absl::string_view text, absl::string_view architecture) {
  const std::regex begin("Compiling entry function '(.+)' for '(.+)'");
  CompiledKernels kernels;
  std::string name;  // of the kernel whose lines these are; none where they are to be skipped
  CompiledKernel kernel;
  for (const absl::string_view part : absl::StrSplit(text, '\n')) {
    const std::string line(part);
    std::smatch match;
    if (std::regex_search(line, match, begin)) {
      if (!name.empty()) break;
      name = match[2].str() == architecture ? ShortKernelName(match[1].str()) : "";
      kernel = {};
    } else if (absl::StrContains(line, " bytes spill stores")) {
      kernel.spill_bytes =
          NumberBefore(line, "bytes spill stores") + NumberBefore(line, "bytes spill loads");
    } else if (absl::StrContains(line, ": Used ") && !name.empty()) {
      kernel.registers = NumberBefore(line, "registers");
      kernel.shared_bytes = NumberBefore(line, "bytes smem");
      KeepLargest(kernel, kernels[name]);
      name.clear();
    }
  }
  if (name.empty()) return kernels;
  return absl::InvalidArgumentError(absl::StrCat("nvcc -Xptxas -v: no figures for ", name));
}

}  // namespace strake
