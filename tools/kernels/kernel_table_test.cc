#include "tools/kernels/kernel_table.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/read_file.h"
#include "gtest/gtest.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

std::string Committed() { return ReadFile(*RunfilePath(kKernelTablePath)).value(); }

// The lines that one of the texts does not have.
std::string Difference(const std::string& old_text, const std::string& new_text) {
  const std::set<std::string> old_lines = absl::StrSplit(old_text, '\n');
  const std::set<std::string> new_lines = absl::StrSplit(new_text, '\n');
  std::string difference;
  for (const std::string& line : old_lines) {
    if (!new_lines.contains(line)) absl::StrAppend(&difference, "- ", line, "\n");
  }
  for (const std::string& line : new_lines) {
    if (!old_lines.contains(line)) absl::StrAppend(&difference, "+ ", line, "\n");
  }
  return difference;
}

// A table of one kernel of 96 registers, launched with 256 threads: two blocks at once.
KernelTable OneKernel(int64_t blocks, double share) {
  KernelTable table = {.compiled = {{"Kernel", {.registers = 96}}}};
  table.steps.push_back({.step = {.name = "a step"}});
  table.steps[0].launches[{.kernel = "Kernel", .blocks = blocks, .threads = 256}] = {
      .times = 1, .share = share};
  return table;
}

TEST(KernelTable, TheCommittedOneIsUpToDate) {
  const std::string committed = Committed();
  const auto table = CurrentKernelTable(committed);
  ASSERT_TRUE(table.ok()) << table.status();
  const auto text = KernelTableText(*table);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_TRUE(*text == committed)
      << Difference(committed, *text) << kKernelTablePath
      << " is out of date. Read what changed, then write it anew:\n"
      << "  bazel run --config=cuda --@strake_cuda//:architectures=sm_90a //tools:kernel_report -- "
         "--write";
  EXPECT_EQ(absl::StrJoin(KernelFaults(*table), "\n"), "");
}

TEST(KernelTable, ReadsItsCompiledKernelsBack) {
  KernelTable table = OneKernel(1, 0);
  table.compiled["Other<Bf16, 8>"] = {.registers = 255, .spill_bytes = 12, .shared_bytes = 4224};
  const auto text = KernelTableText(table);
  ASSERT_TRUE(text.ok()) << text.status();
  const auto compiled = CompiledKernelsOf(*text);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  EXPECT_EQ(*compiled, table.compiled);
}

TEST(KernelTable, TextIsAnErrorWhereNobodyCompiledAKernel) {
  KernelTable table = OneKernel(1, 0);
  table.compiled.clear();
  EXPECT_TRUE(absl::IsNotFound(KernelTableText(table).status()));
}

TEST(KernelTable, ASpillIsAFault) {
  KernelTable table = OneKernel(1, 0);
  EXPECT_TRUE(KernelFaults(table).empty());
  table.compiled["Kernel"].spill_bytes = 8;
  ASSERT_EQ(KernelFaults(table).size(), 1);
  EXPECT_EQ(KernelFaults(table)[0], "Kernel spills: 8 bytes");
}

TEST(KernelTable, ALastWaveThatIsHardlyFullIsAFault) {
  constexpr int64_t kWave = 132 * 2;
  EXPECT_EQ(KernelFaults(OneKernel(kWave + kWave / 4, 0.02)).size(), 1);
  EXPECT_TRUE(KernelFaults(OneKernel(kWave + kWave / 4, 0.009)).empty()) << "too little of a step";
  EXPECT_TRUE(KernelFaults(OneKernel(kWave / 4, 0.02)).empty()) << "one wave";
  EXPECT_TRUE(KernelFaults(OneKernel(2 * kWave, 0.02)).empty());
  EXPECT_TRUE(KernelFaults(OneKernel(kWave + kWave / 2, 0.02)).empty()) << "half full";
  EXPECT_TRUE(KernelFaults(OneKernel(40 * kWave + 1, 0.02)).empty()) << "hardly any time";
}

}  // namespace
}  // namespace strake
