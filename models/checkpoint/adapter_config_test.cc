#include "models/checkpoint/adapter_config.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

// The least that PEFT's file has, with a merge patch.
std::string Text(const std::string& patch) {
  Json json = {{"peft_type", "LORA"},
               {"r", 4},
               {"lora_alpha", 8},
               {"target_modules", Json::array({"q_proj", "v_proj"})}};
  json.merge_patch(Json::parse(patch));
  return json.dump();
}

AdapterConfig Parse(const std::string& patch, std::vector<std::string>* notices = nullptr) {
  const auto config = ParseAdapterConfig(Text(patch), "a.json", notices);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(AdapterConfig());
}

std::string ErrorOf(const std::string& patch) {
  const absl::Status status = ParseAdapterConfig(Text(patch), "a.json", nullptr).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << patch << ": " << status;
  return std::string(status.message());
}

TEST(AdapterConfigTest, ReadsWhatPeftWrites) {
  std::vector<std::string> notices;
  const AdapterConfig config =
      Parse(R"({"base_model_name_or_path": "models/tiny", "task_type": "CAUSAL_LM", "bias": "none",
                "lora_dropout": 0.0, "rank_pattern": {}, "use_dora": false, "peft_version": "0.21",
                "modules_to_save": null, "fan_in_fan_out": true, "init_lora_weights": "gaussian"})",
            &notices);
  EXPECT_EQ(config.lora, (LoraConfig{.rank = 4, .alpha = 8, .targets = {"q_proj", "v_proj"}}));
  EXPECT_EQ(config.base_model, "models/tiny");
  EXPECT_THAT(notices, IsEmpty());
  EXPECT_EQ(Parse("{}").base_model, "");
}

TEST(AdapterConfigTest, AllLinearLayersAreNoList) {
  EXPECT_THAT(Parse(R"({"target_modules": "all-linear"})").lora.targets, IsEmpty());
}

TEST(AdapterConfigTest, RankStabilisedScaleIsAnAlpha) {
  const LoraConfig lora = Parse(R"({"use_rslora": true, "r": 16, "lora_alpha": 3})").lora;
  EXPECT_EQ(lora.alpha / static_cast<double>(lora.rank), 3 / std::sqrt(16.0));
}

TEST(AdapterConfigTest, DropoutIsSaid) {
  std::vector<std::string> notices;
  Parse(R"({"lora_dropout": 0.05})", &notices);
  EXPECT_THAT(notices, ElementsAre(AllOf(HasSubstr("a.json: "), HasSubstr("lora_dropout 0.05"))));
}

TEST(AdapterConfigTest, WhatIsNotImplementedIsNamed) {
  const struct {
    const char* patch;
    const char* error;
  } kCases[] = {
      {R"({"peft_type": "IA3"})", "\"peft_type\" is \"IA3\""},
      {R"({"task_type": "SEQ_CLS"})", "\"task_type\" is \"SEQ_CLS\""},
      {R"({"bias": "lora_only"})", "\"bias\" is \"lora_only\""},
      {R"({"rank_pattern": {"q_proj": 2}})", "\"rank_pattern\" is {\"q_proj\":2}"},
      {R"({"alpha_pattern": {"q_proj": 2}})", "\"alpha_pattern\" is {\"q_proj\":2}"},
      {R"({"use_dora": true})", "\"use_dora\" is true"},
      {R"({"lora_bias": true})", "\"lora_bias\" is true"},
      {R"({"modules_to_save": ["lm_head"]})", "\"modules_to_save\" is [\"lm_head\"]"},
      {R"({"layers_to_transform": [0]})", "\"layers_to_transform\" is [0]"},
      {R"({"layers_to_transform": 0})", "\"layers_to_transform\" is 0"},
      {R"({"init_lora_weights": "pissa"})", "\"init_lora_weights\" is \"pissa\""},
      {R"({"of_a_later_peft": 1})", "\"of_a_later_peft\" is 1"},
      {R"({"target_modules": ".*_proj"})", "a regular expression"},
  };
  for (const auto& each : kCases) {
    EXPECT_THAT(ErrorOf(each.patch), AllOf(HasSubstr("a.json: "), HasSubstr(each.error)));
  }
}

TEST(AdapterConfigTest, BrokenValuesAreNamed) {
  for (const char* patch :
       {R"({"r": 0})", R"({"r": 2.5})", R"({"r": 1048577})", R"({"r": null})",
        R"({"lora_alpha": 0})", R"({"lora_alpha": 2e9})", R"({"lora_alpha": "8"})",
        R"({"use_rslora": 1})", R"({"target_modules": []})", R"({"target_modules": [1]})",
        R"({"target_modules": [""]})", R"({"target_modules": null})",
        R"({"base_model_name_or_path": 3})"}) {
    const std::string key = Json::parse(patch).begin().key();
    EXPECT_THAT(ErrorOf(patch), HasSubstr("a.json: \"" + key + "\" is ")) << patch;
  }
  EXPECT_THAT(ParseAdapterConfig("[]", "a.json", nullptr).status().message(),
              HasSubstr("a.json: is no JSON object"));
  EXPECT_THAT(ParseAdapterConfig("{", "a.json", nullptr).status().message(), HasSubstr("a.json: "));
}

TEST(AdapterConfigTest, WhatIsWrittenIsReadBack) {
  const AdapterConfig kConfigs[] = {
      {.lora = {.rank = 8, .alpha = 16, .targets = {"c_attn"}}, .base_model = "/models/base"},
      {.lora = {.rank = 3, .alpha = 0.1}},
  };
  for (const AdapterConfig& config : kConfigs) {
    std::vector<std::string> notices;
    const auto read = ParseAdapterConfig(ToAdapterConfig(config, true), "a.json", &notices);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, config);
    EXPECT_THAT(notices, IsEmpty());
  }
  const Json json = Json::parse(ToAdapterConfig(kConfigs[0], /*fan_in_fan_out=*/true));
  EXPECT_EQ(json.at("fan_in_fan_out"), true);
  EXPECT_TRUE(json.at("lora_alpha").is_number_integer()) << json.at("lora_alpha");
}

}  // namespace
}  // namespace strake
