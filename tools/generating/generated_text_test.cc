#include "tools/generating/generated_text.h"

#include <fstream>
#include <memory>
#include <sstream>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// Every byte, then "<end>" (256), which is special, and "sea" (257).
std::unique_ptr<const Tokenizer> SmallTokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.push_back(std::string(1, byte));
  spec.tokens.push_back("<end>");
  spec.tokens.push_back("sea");
  spec.added.push_back({.id = 256, .text = "<end>", .special = true});
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

class GeneratedTextTest : public ::testing::Test {
 protected:
  void Start(const std::vector<Prompt>& prompts, const Tokenizer* tokenizer,
             const GeneratedText::Options& options) {
    prompts_ = prompts;
    text_ = std::make_unique<GeneratedText>(prompts_, tokenizer, options, &out_);
    EXPECT_TRUE(text_->Begin().ok());
  }
  // Adds a token and returns what was printed since the last call.
  std::string Add(const GeneratedToken& token) {
    EXPECT_TRUE(text_->Add(token).ok());
    return Printed();
  }
  std::string Printed() {
    const std::string all = out_.str();
    out_.str("");
    return all;
  }
  std::string End() {
    EXPECT_TRUE(text_->End().ok());
    return Printed();
  }

  const std::unique_ptr<const Tokenizer> tokenizer_ = SmallTokenizer();
  std::vector<Prompt> prompts_;
  std::ostringstream out_;
  std::unique_ptr<GeneratedText> text_;
};

TEST_F(GeneratedTextTest, OnePromptIsStreamedInWholeCharacters) {
  Start({{"by the ", {98, 121}}}, tokenizer_.get(), {});
  EXPECT_EQ(Printed(), "by the ");
  EXPECT_EQ(Add({.token = 257}), "sea");
  EXPECT_EQ(Add({.token = 0xc3}), "");
  EXPECT_EQ(Add({.token = 0xa9}), "\u00e9");
  EXPECT_EQ(Add({.token = 0x1b}), "\x1b");
  EXPECT_EQ(Add({.token = 256, .is_end = true, .is_last = true}), "");
  EXPECT_EQ(End(), "\n");
}

TEST_F(GeneratedTextTest, ACharacterThatIsNeverWholeIsReplaced) {
  Start({{"x", {120}}}, tokenizer_.get(), {});
  Printed();
  EXPECT_EQ(Add({.token = 0xc3, .is_last = true}), "\ufffd");
}

TEST_F(GeneratedTextTest, ATerminalGetsNoControlCharacters) {
  Start({{"a\x1b[2J\n", {97}}}, tokenizer_.get(), {.terminal = true});
  EXPECT_EQ(Printed(), "a\\x1b[2J\n");
  EXPECT_EQ(Add({.token = 0x1b}), "\\x1b");
  EXPECT_EQ(Add({.token = '\n'}), "\n");
}

TEST_F(GeneratedTextTest, TokensAreNumbersWithoutATokenizer) {
  Start({{"", {5, 6}}}, nullptr, {});
  EXPECT_EQ(Printed(), "5,6");
  EXPECT_EQ(Add({.token = 7, .is_last = true}), ",7");
  EXPECT_EQ(End(), "\n");
}

TEST_F(GeneratedTextTest, SeveralPromptsComeInOrder) {
  Start({{"a", {97}}, {"b", {98}}, {"c", {99}}}, tokenizer_.get(), {});
  EXPECT_EQ(Add({.prompt = 1, .token = 'x', .is_last = true}), "");
  EXPECT_EQ(Add({.prompt = 0, .token = 'y'}), "");
  EXPECT_EQ(Add({.prompt = 0, .token = 256, .is_end = true, .is_last = true}), "ay\n---\nbx\n");
  EXPECT_EQ(Add({.prompt = 2, .token = 'z', .is_last = true}), "---\ncz\n");
  EXPECT_EQ(End(), "");
}

TEST_F(GeneratedTextTest, JsonHasTextTokensAndWhyItStopped) {
  Start({{"a\"", {97, 34}}, {"b", {98}}}, tokenizer_.get(), {.json = true});
  EXPECT_EQ(Add({.prompt = 0, .token = 257}), "");
  EXPECT_EQ(Add({.prompt = 0, .token = 256, .is_end = true, .is_last = true}),
            "{\"prompt\":\"a\\\"\",\"text\":\"sea\",\"prompt_tokens\":[97,34],\"tokens\":[257,256],"
            "\"stopped_by\":\"end_token\"}\n");
  EXPECT_THAT(Add({.prompt = 1, .token = 0xff, .is_last = true}),
              ::testing::HasSubstr("\"text\":\"\ufffd\",\"prompt_tokens\":[98],\"tokens\":[255],"
                                   "\"stopped_by\":\"max_tokens\""));
}

TEST_F(GeneratedTextTest, AStreamThatIsClosedIsAnError) {
  Start({{"a", {97}}}, tokenizer_.get(), {});
  out_.setstate(std::ios::badbit);
  EXPECT_EQ(text_->Add({.token = 'x'}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(GeneratedTextTest, AFullDiskIsNamed) {
  std::ofstream full("/dev/full");
  ASSERT_TRUE(full.is_open());
  prompts_ = {{"a", {97}}};
  GeneratedText text(prompts_, tokenizer_.get(), {}, &full);
  for (const absl::Status& status : {text.Begin(), text.Add({.token = 'x'}), text.End()}) {
    EXPECT_EQ(status.message(), "cannot write to stdout: No space left on device");
  }
}

}  // namespace
}  // namespace strake
