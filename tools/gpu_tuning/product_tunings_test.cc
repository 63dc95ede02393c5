#include "tools/gpu_tuning/product_tunings.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(ProductTuningsTest, BuiltInTablesAreOfDifferentGpus) {
  std::set<std::string> gpus;
  for (const ProductTuning& tuning : ProductTunings()) {
    EXPECT_TRUE(gpus.insert(tuning.gpu).second) << tuning.gpu;
    EXPECT_TRUE(tuning.cublaslt > 0 || tuning.algorithms.empty()) << tuning.gpu;
  }
  EXPECT_EQ(gpus.count("NVIDIA H200"), 1u);
}

TEST(ProductTuningsTest, TextIsWhatIsParsed) {
  const ProductTuning tuning = {.gpu = "a GPU",
                                .cublaslt = 130100,
                                .algorithms = {{"c f32[1, 2] = a f32[1, 3] b f32[3, 2]", 3},
                                               {"c f32[1, 4] = a f32[1, 3] b f32[3, 4]", 1},
                                               {"c f32[1, 4] = a f32[1, 3] b f32[3, 4], sums of b",
                                                ProductTuning::kUnfused}}};
  const std::string text = ProductTuningText(tuning);
  EXPECT_THAT(text, HasSubstr("\n    \"c f32[1, 2] = a f32[1, 3] b f32[3, 2]\": 3,\n"));
  const auto parsed = ParseProductTuning(text, "here");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->gpu, "a GPU");
  EXPECT_EQ(parsed->cublaslt, 130100);
  EXPECT_THAT(parsed->algorithms,
              UnorderedElementsAre(Pair("c f32[1, 2] = a f32[1, 3] b f32[3, 2]", 3),
                                   Pair("c f32[1, 4] = a f32[1, 3] b f32[3, 4]", 1),
                                   Pair("c f32[1, 4] = a f32[1, 3] b f32[3, 4], sums of b",
                                        ProductTuning::kUnfused)));
  EXPECT_THAT(text, HasSubstr("sums of b\": \"unfused\""));
}

TEST(ProductTuningsTest, WrongTablesAreNamed) {
  const struct {
    const char *text, *error;
  } kWrong[] = {
      {"[]", "here: must be an object"},
      {R"({"gpu": "g", "cublaslt": 1})", "here: must be an object"},
      {R"({"gpu": 1, "cublaslt": 1, "products": {}})", "\"gpu\""},
      {R"({"gpu": "g", "cublaslt": -1, "products": {}})", "\"cublaslt\""},
      {R"({"gpu": "g", "cublaslt": 1, "products": []})", "\"products\""},
      {R"({"gpu": "g", "cublaslt": 1, "products": {"c": 8}})",
       "\"c\" must be \"unfused\" or a number below 8"},
      {R"({"gpu": "g", "cublaslt": 1, "products": {"c": "1"}})", "not \"1\""},
      {"{", "here"},
  };
  for (const auto& wrong : kWrong) {
    EXPECT_THAT(std::string(ParseProductTuning(wrong.text, "here").status().message()),
                HasSubstr(wrong.error));
  }
}

}  // namespace
}  // namespace strake
