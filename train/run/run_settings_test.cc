#include "train/run/run_settings.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/version.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "optim/lr_schedule.h"
#include "parallel/mesh/mesh.h"

namespace strake {
namespace {

TrainerOptions Options() {
  TrainerOptions options;
  options.engine.model = *ModelPreset("gpt2-tiny");
  options.engine.seq_len = 32;
  options.engine.micro_batch = 2;
  options.train_files = {"a.txt", "b.txt"};
  options.global_batch = 8;
  options.schedule = {.kind = ScheduleKind::kLinear,
                      .lr = 0.25,
                      .min_lr = 0.125,
                      .warmup_steps = 3,
                      .total_steps = 10};
  options.seed = 7;
  options.directory = "runs/x";
  return options;
}

// Runs of earlier versions can only be resumed while these keys and values do not change.
TEST(IdentityTest, HasTheseKeysInThisOrder) {
  nlohmann::ordered_json identity = IdentityOf(Options(), "0123, tokens 0 to 9");
  EXPECT_EQ(identity.at("model"),
            nlohmann::ordered_json::parse(ToHfConfig(*ModelPreset("gpt2-tiny"))));
  identity.erase("model");
  EXPECT_EQ(identity.dump(),
            R"({"train_data":"0123, tokens 0 to 9","seed":7,"shuffle":true,"seq_len":32,)"
            R"("global_batch":8,"lr":0.25,"min_lr":0.125,"schedule":"linear","warmup_steps":3,)"
            R"("weight_decay":0.1,"beta1":0.9,"beta2":0.95,"eps":1e-08,"clip_norm":1.0})");
}

TEST(IdentityTest, AdaptersBelongToTheirBase) {
  TrainerOptions options = Options();
  options.engine.model.lora = {.rank = 2, .alpha = 3};
  options.init_from = "base";
  options.init_adapter = "adapter";
  const auto identity = IdentityOf(options, "0123", DataRules::kBytesAndEnd, "89abcdef");
  EXPECT_EQ(identity.at("lora_rank"), 2);
  EXPECT_EQ(identity.at("lora_alpha"), 3);
  EXPECT_EQ(identity.at("lora_targets"), "c_attn,c_proj,c_fc");
  EXPECT_EQ(identity.at("base_weights"), "89abcdef");
  EXPECT_FALSE(identity.contains("init_from"));
  // Where a run is resumed, its modules are those that an earlier start listed.
  TrainerOptions listed = options;
  listed.engine.model.lora.targets = {"c_attn", "c_proj", "c_fc"};
  EXPECT_EQ(IdentityOf(listed, "0123", DataRules::kBytesAndEnd, "89abcdef"), identity);
  const nlohmann::ordered_json config = ConfigOf(options, {1, 1, 1, 1});
  EXPECT_EQ(config.at("init_adapter"), "adapter");
  const nlohmann::ordered_json shared = SharedSettings(config, identity);
  for (const char* key : {"init_from", "init_adapter"}) EXPECT_FALSE(shared.contains(key)) << key;
}

TEST(IdentityTest, ABlendIsTheSharesOfItsSources) {
  TrainerOptions options = Options();
  options.train_files.clear();
  options.train_sources = {{"books", {"a.txt", "b.txt"}, 0.75}, {"code", {"c.txt"}, 0.25}};
  EXPECT_EQ(IdentityOf(options, "0123").at("blend").dump(), "[3,1]");
  EXPECT_EQ(ConfigOf(options, {1, 1, 1, 1}).at("train_data"),
            "books:a.txt,b.txt:0.75,code:c.txt:0.25");
}

TEST(ConfigTest, HoldsWhatTheTrainerKnows) {
  TrainerOptions options = Options();
  options.engine.dtype = DType::kBf16;
  options.engine.sequence_parallel = true;
  options.engine.gradients.zero = 1;
  options.engine.gradients.reduce_in_bf16 = true;
  options.engine.pipeline = {.kind = PipelineKind::kZeroBubble, .in_flight = 4, .layers = {1, 3}};
  EXPECT_EQ(
      ConfigOf(options, {.dp = 2, .pp = 2, .cp = 1, .tp = 4}).dump(),
      R"({"init_from":"","train_data":"a.txt,b.txt","val_data":"","seq_len":32,)"
      R"("documents":"concat","truncate":false,)"
      R"("micro_batch":2,"global_batch":8,"shuffle":true,"steps":10,"lr":0.25,)"
      R"("min_lr":0.125,"schedule":"linear","warmup_steps":3,"weight_decay":0.1,)"
      R"("beta1":0.9,"beta2":0.95,"eps":1e-08,"clip_norm":1.0,"seed":7,"device":"cpu",)"
      R"("dtype":"bf16","threads":1,"ops":"auto","activation_recompute":"none",)"
      R"("cuda_graph":false,"deterministic":true,"out":"runs/x","resume":"auto","tp":4,"cp":1,)"
      R"("pp":2,"dp":2,"sequence_parallel":true,"cp_comm":"ring","zero":1,"pp_schedule":"zero_bubble",)"
      R"("pp_chunks":1,"pp_in_flight":4,"pp_layers":"1,3","grad_reduce_dtype":"bf16",)"
      R"("eval_every":500,"eval_batches":-1,)"
      R"("sample_every":500,"save_every":500,"keep_last":3,"async_save":true,)"
      R"("save_retry":600})");
}

TEST(ConfigTest, TheProgramsOwnOptionsComeFirstAndStay) {
  TrainerOptions options = Options();
  options.program_config = R"({"zoom": 1.5, "steps": 3, "train_data": "*.txt"})";
  const nlohmann::ordered_json config = ConfigOf(options, {1, 1, 1, 1});
  EXPECT_EQ(config.begin().key(), "zoom");
  EXPECT_EQ(config.at("steps"), 3);
  EXPECT_EQ(config.at("train_data"), "*.txt");
  EXPECT_EQ(config.at("seq_len"), 32);
}

TEST(ConfigDeathTest, NoJsonObject) {
  TrainerOptions options = Options();
  for (const char* text : {"[]", "{", "3"}) {
    options.program_config = text;
    EXPECT_DEATH(ConfigOf(options, {1, 1, 1, 1}), "no JSON object");
  }
}

TEST(SharedSettingsTest, LeavesOutWhatMachinesMayDifferIn) {
  const TrainerOptions options = Options();
  const nlohmann::ordered_json identity = IdentityOf(options, "0123");
  const nlohmann::ordered_json shared = SharedSettings(ConfigOf(options, {1, 1, 1, 1}), identity);
  for (const char* key : {"threads", "out", "val_data", "init_from"}) {
    EXPECT_FALSE(shared.contains(key)) << key;
  }
  EXPECT_EQ(shared.at("train_data"), "0123");
  EXPECT_EQ(shared.at("model"), identity.at("model"));
  EXPECT_EQ(shared.at("micro_batch"), 2);
  EXPECT_EQ(shared.at("program"),
            absl::StrCat("strake ", Version(), " (", BuildConfiguration(), ")"));
}

}  // namespace
}  // namespace strake
