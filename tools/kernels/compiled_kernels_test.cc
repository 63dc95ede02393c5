#include "tools/kernels/compiled_kernels.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// As nvcc 13.0 prints it, for two architectures.
constexpr char kPtxas[] =
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function '_ZN6strake4cuda57_GLOBAL__N__d8e5c829_18_layer_norm_"
    "cuda_cu_f16ac276_1358623LayerNormBackwardKernelINS_4Bf16ELi8EEEvPKT_S6_S6_PKfS8_iibPS4_PfSA_' "
    "for 'sm_80'\n"
    "ptxas info    : Function properties for _ZN6strake4cuda57_GLOBAL__N__d8e5c829_18\n"
    "    32 bytes stack frame, 28 bytes spill stores, 60 bytes spill loads\n"
    "ptxas info    : Used 99 registers, used 1 barriers, 32 bytes cumulative stack size\n"
    "ptxas info    : Compile time = 37.937 ms\n"
    "ptxas info    : Compiling entry function '_ZN6strake4cuda57_GLOBAL__N__d8e5c829_18_layer_norm_"
    "cuda_cu_f16ac276_1358623LayerNormBackwardKernelINS_4Bf16ELi8EEEvPKT_S6_S6_PKfS8_iibPS4_PfSA_' "
    "for 'sm_90a'\n"
    "    8 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
    "ptxas info    : Used 128 registers, used 1 barriers, 8 bytes cumulative stack size, 512 bytes "
    "smem, 400 bytes cmem[0]\n";

TEST(CompiledKernels, ReadsTheFiguresOfOneArchitecture) {
  const CompiledKernels expected = {{"LayerNormBackwardKernel<Bf16, 8>",
                                     {.registers = 128, .spill_bytes = 12, .shared_bytes = 512}}};
  const auto kernels = ParsePtxas(kPtxas, "sm_90a");
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  EXPECT_EQ(*kernels, expected);
  EXPECT_TRUE(ParsePtxas(kPtxas, "sm_100")->empty());
}

TEST(CompiledKernels, OfOneNameHasTheLargestFigures) {
  constexpr char kBegin[] = "ptxas info    : Compiling entry function 'Kernel' for 'sm_90a'\n";
  const auto kernels =
      ParsePtxas(absl::StrCat(kBegin, "ptxas info    : Used 8 registers, 64 bytes smem\n", kBegin,
                              "0 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n",
                              "ptxas info    : Used 7 registers\n"),
                 "sm_90a");
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  const CompiledKernels expected = {
      {"Kernel", {.registers = 8, .spill_bytes = 8, .shared_bytes = 64}}};
  EXPECT_EQ(*kernels, expected);
}

TEST(CompiledKernels, IsAnErrorWhereFiguresAreMissing) {
  constexpr char kBegin[] = "ptxas info    : Compiling entry function 'Kernel' for 'sm_90a'\n";
  for (const std::string& text : {std::string(kBegin), absl::StrCat(kBegin, kPtxas)}) {
    EXPECT_EQ(ParsePtxas(text, "sm_90a").status().message(),
              "nvcc -Xptxas -v: no figures for Kernel");
  }
}

TEST(CompiledKernels, NamesAreThoseOfBothCompilers) {
  EXPECT_EQ(ShortKernelName("cuda::{anonymous}::SumKernel<strake::Bf16, 8>"), "SumKernel<Bf16, 8>");
  EXPECT_EQ(ShortKernelName("_ZN6strake4cuda17SumPartialsKernelEPKfiiPf"), "SumPartialsKernel");
  EXPECT_EQ(ShortKernelName("cuda::SumPartialsKernel"), "SumPartialsKernel");
}

}  // namespace
}  // namespace strake
