#include "core/memory/activation_arena.h"

#include <cmath>

#include "gtest/gtest.h"

namespace strake {
namespace {

void Step(ActivationArena& arena) {
  const Tensor x = arena.Allocate(DType::kF32, {3, 5});
  {
    const ActivationScope scope(arena);
    arena.Allocate(DType::kF64, {100});
    arena.Allocate(DType::kF32, {0});
  }
  const Tensor y = arena.Allocate(DType::kBf16, {7});
  if (arena.dry_run()) return;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(y.raw()) % kTensorAlignment, 0u);
  EXPECT_EQ(static_cast<char*>(y.raw()) - static_cast<char*>(x.raw()), 64);
}

TEST(ActivationArenaTest, DryRunPlansTheRealRun) {
  ActivationArena plan = ActivationArena::DryRun();
  Step(plan);
  EXPECT_EQ(plan.Allocate(DType::kF32, {1}).raw(), nullptr);
  EXPECT_EQ(plan.peak_bytes(), 64u + 832u);
  auto arena = ActivationArena::Create(plan.peak_bytes());
  ASSERT_TRUE(arena.ok());
  Step(*arena);
  EXPECT_EQ(arena->peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(arena->used_bytes(), 128u);
}

// What stays is in each arena, and what is scratch in one that they share.
TEST(ActivationArenaTest, ScratchOfSeveral) {
  ActivationArena scratch = ActivationArena::DryRun();
  ActivationArena arenas[] = {ActivationArena::DryRun(), ActivationArena::DryRun()};
  for (ActivationArena& arena : arenas) {
    arena.set_scratch(&scratch);
    arena.Allocate(DType::kF32, {16});
    {
      const ActivationScope outer(arena);
      arena.Allocate(DType::kF32, {32});
      const ActivationScope inner(arena);
      arena.Allocate(DType::kF32, {64});
      EXPECT_EQ(scratch.used_bytes(), 384u);
    }
    arena.Allocate(DType::kF32, {16});
    EXPECT_EQ(arena.used_bytes(), 128u);
    EXPECT_EQ(scratch.used_bytes(), 0u);
  }
  EXPECT_EQ(scratch.peak_bytes(), 384u);
  arenas[0].Clear();
  EXPECT_EQ(arenas[0].used_bytes(), 0u);
  EXPECT_EQ(arenas[0].peak_bytes(), 128u);
  EXPECT_DEATH(
      {
        const ActivationScope scope(arenas[1]);
        arenas[1].Clear();
      },
      "within a scope");
}

TEST(ActivationArenaTest, PoisonIsNan) {
  auto arena = ActivationArena::Create(1024);
  ASSERT_TRUE(arena.ok());
  arena->set_poison(true);
  EXPECT_TRUE(std::isnan(arena->Allocate(DType::kF32, {4}).data<float>()[3]));
  EXPECT_TRUE(std::isnan(arena->Allocate(DType::kF64, {4}).data<double>()[3]));
}

TEST(ActivationArenaDeathTest, TooSmallAPlanIsABug) {
  auto arena = ActivationArena::Create(64);
  ASSERT_TRUE(arena.ok());
  EXPECT_DEATH(arena->Allocate(DType::kF32, {17}), "f32\\[17\\] after 0 bytes");
}

TEST(HostMemoryTest, ImpossibleSizeIsAnError) {
  const auto memory = HostMemory::Allocate(size_t{1} << 62);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace strake
