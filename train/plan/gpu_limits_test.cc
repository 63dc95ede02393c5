#include "train/plan/gpu_limits.h"

#include "core/cuda/cuda_runtime.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

TEST(GpuLimitsTest, MeasuresProductsAndCopies) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto before = DescribeCudaDevice(0);
    ASSERT_TRUE(before.ok()) << before.status();
    const ProductShape small = {.m = 1, .n = 8, .k = 1}, large = {.m = 64, .n = 96, .k = 48};
    const auto limits = MeasureGpuLimits(0, dtype, {small, large});
    ASSERT_TRUE(limits.ok()) << limits.status();
    EXPECT_GT(limits->product_flops, 0);
    EXPECT_EQ(limits->product.ToString(), "64 x 96 x 48") << "the faster one, per multiplication";
    EXPECT_GT(limits->copy_bytes_per_second, 1e6);
    EXPECT_LT(limits->copy_bytes_per_second, 1e14);
  }
}

TEST(GpuLimitsTest, FreesItsMemory) {
  ASSERT_TRUE(MeasureGpuLimits(0, DType::kF32, {{1, 1, 1}}).ok());  // libraries keep some memory
  const size_t free_bytes = DescribeCudaDevice(0)->free_bytes;
  ASSERT_TRUE(MeasureGpuLimits(0, DType::kF32, {{1, 1, 1}}).ok());
  EXPECT_EQ(DescribeCudaDevice(0)->free_bytes, free_bytes);
}

TEST(GpuLimitsTest, BetterOfTakesEachPart) {
  const GpuLimits a = {.product_flops = 2, .product = {1, 2, 3}, .copy_bytes_per_second = 5};
  const GpuLimits b = {.product_flops = 1, .product = {4, 5, 6}, .copy_bytes_per_second = 7};
  for (const GpuLimits& better : {BetterOf(a, b), BetterOf(b, a)}) {
    EXPECT_EQ(better.product_flops, 2);
    EXPECT_EQ(better.product.ToString(), "1 x 2 x 3");
    EXPECT_EQ(better.copy_bytes_per_second, 7);
  }
}

TEST(GpuLimitsTest, LargestProductsOfARank) {
  EngineOptions options;
  options.model = *ModelPreset("gpt2-tiny");
  options.model.vocab_size = 301;
  options.model.hidden_size = 16;
  options.model.head_dim = 16 / options.model.num_heads;
  options.model.intermediate_size = 64;
  options.seq_len = 12;
  options.micro_batch = 2;
  const auto products = LargestProducts(RecordStep(options, {1, 1, 1, 2}, 0, 1).calls);
  ASSERT_EQ(products.size(), 3);
  EXPECT_EQ(products[0].ToString(), "24 x 151 x 16");
  EXPECT_EQ(products[1].ToString(), "24 x 32 x 16");
  EXPECT_EQ(products[2].ToString(), "24 x 16 x 32");
}

TEST(GpuLimitsTest, KnowsGpusByName) {
  EXPECT_EQ(NominalBf16Flops("NVIDIA H200"), 989e12);
  EXPECT_EQ(NominalBf16Flops("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(NominalBf16Flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(NominalBf16Flops("NVIDIA A100-SXM4-80GB"), 312e12);
  EXPECT_EQ(NominalBf16Flops("NVIDIA GB200"), 2500e12);
  EXPECT_EQ(NominalBf16Flops("NVIDIA B200"), 2250e12);
  EXPECT_FALSE(NominalBf16Flops("emulated GPU").has_value());
  EXPECT_EQ(NominalMemoryRate("NVIDIA H200"), 4.8e12);
  EXPECT_EQ(NominalMemoryRate("NVIDIA H100 80GB HBM3"), 3.35e12);
  EXPECT_EQ(NominalMemoryRate("NVIDIA A100-SXM4-40GB"), 1.555e12);
  EXPECT_EQ(NominalMemoryRate("NVIDIA B200"), 8e12);
  EXPECT_FALSE(NominalMemoryRate("emulated GPU").has_value());
}

}  // namespace
}  // namespace strake
