#include "tools/generating/converse.h"

#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "data/chat/chat_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

// Each byte is a token, and so are ChatML's two.
constexpr int32_t kStart = 256, kEnd = 257;

std::unique_ptr<const Tokenizer> MakeTokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  spec.added = {{.id = kStart, .text = "<|im_start|>", .special = true},
                {.id = kEnd, .text = "<|im_end|>", .special = true}};
  return Tokenizer::Create(std::move(spec)).value();
}

// A model whose n-th answer is "n!", and what it was asked.
class Model {
 public:
  absl::Status Generate(const std::vector<int32_t>& prompt, int64_t max_tokens, uint64_t seed,
                        absl::FunctionRef<absl::Status(const GeneratedToken&)> on_token) {
    prompts.push_back(tokenizer->Decode(prompt, /*skip_special=*/false));
    limits.push_back(max_tokens);
    seeds.push_back(seed);
    const int32_t digit = '0' + static_cast<int32_t>(prompts.size());
    for (const int32_t token : {digit, int32_t{'!'}, int32_t{7}, kEnd}) {
      const absl::Status status = on_token({.token = token, .is_end = token == kEnd});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<const Tokenizer> tokenizer = MakeTokenizer();
  std::vector<std::string> prompts;
  std::vector<int64_t> limits;
  std::vector<uint64_t> seeds;
};

absl::Status Talk(ConverseOptions options, const std::string& input, Model* model,
                  std::string* output) {
  const auto encoder =
      ChatEncoder::Create(FindChatFormat("chatml").value(), model->tokenizer.get(), "");
  options.encoder = &*encoder;
  options.tokenizer = model->tokenizer.get();
  std::istringstream in(input);
  std::ostringstream out;
  const absl::Status status = Converse(
      options, [&](auto&&... arguments) { return model->Generate(arguments...); }, &in, &out);
  *output = out.str();
  return status;
}

TEST(ConverseTest, EachAnswerIsToTheWholeConversation) {
  Model model;
  std::string output;
  const absl::Status status =
      Talk({.system = "Count.", .max_tokens = 9, .max_context_tokens = 1000, .seed = 5},
           " One \n\n  \nTwo", &model, &output);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(output, "1!\a\n2!\a\n");
  const std::string first =
      "<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nOne<|im_end|>\n"
      "<|im_start|>assistant\n";
  ASSERT_EQ(model.prompts.size(), 2);
  EXPECT_EQ(model.prompts[0], first);
  EXPECT_EQ(model.prompts[1], first +
                                  "1!\a<|im_end|>\n<|im_start|>user\nTwo<|im_end|>\n"
                                  "<|im_start|>assistant\n");
  EXPECT_EQ(model.limits, (std::vector<int64_t>{9, 9}));
  EXPECT_EQ(model.seeds, (std::vector<uint64_t>{5, 6}));
}

TEST(ConverseTest, ATerminalIsAsked) {
  Model model;
  std::string output;
  ASSERT_TRUE(
      Talk({.max_tokens = 9, .max_context_tokens = 1000, .terminal = true}, "Hi\n", &model, &output)
          .ok());
  EXPECT_EQ(output, "> 1!\\x07\n> \n");
}

TEST(ConverseTest, EndsWhereTheContextIsFull) {
  Model model;
  std::string output;
  // <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n are 21 tokens, the first answer and its
  // end 5.
  absl::Status status =
      Talk({.max_tokens = 9, .max_context_tokens = 23}, "Hi\nHi\n", &model, &output);
  EXPECT_EQ(model.limits, (std::vector<int64_t>{2}));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the conversation has 47 tokens, and there is room for 23"));
  EXPECT_EQ(output, "1!\a\n");
}

}  // namespace
}  // namespace strake
