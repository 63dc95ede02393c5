#include "data/chat/chat_template.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/sha256.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

struct KnownTemplate {
  absl::string_view hash, format;
};

// Of texts as published. testdata/make_chat_goldens.py says whose each is, and shows that the
// format writes what it writes.
constexpr KnownTemplate kKnown[] = {
    {"153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", "chatml"},
    {"31e10ce181f9efb8cdd33e5f274d4fea971d91ac59d24817015d7f432bb1f51c", "chatml"},
    {"fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e", "chatml"},
    {"64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326", "chatml"},
    {"793202280c0910ab26bc6eb57c8212c2417324c6d8c4efd0d10d59092ab3e3eb", "qwen2"},
    {"55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", "qwen2.5"},
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2"},
    {"e8d5b5a546d3f19df16a5320c614fab05bdc4edd50e850f1afd947b503ea41cf", "llama2"},
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", "llama3"},
    {"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", "llama3.1"},
    {"d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f", "llama3.2"},
    {"ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6", "gemma"},
    {"8d9e3a3c114fb2053ec500184677af4f7e5f8ec2582443cd535834e68b3ade29", "gemma3"},
    {"7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495", "mistral-v0.1"},
    {"26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7", "mistral-v0.2"},
    {"bbc58aad99454df60138be9530c9601a0adfe3d8932cda975e1f10b2410ddc51", "mistral-v1"},
    {"cafb64e0e9e5fd2503054b3479593fae39cbdfd52338ce8af9bb4664a8eb05bd", "mistral-v3"},
    {"e7deee034838db2bfc7487788a3013d8a307ab69f72f3c54a85f06fd76007d4e", "mistral-tekken"},
    {"3c4ad5fa60dd8c7ccdf82fa4225864c903e107728fcaf859fa6052cb80c92ee9", "mistral-v7"},
    {"268b6082ceb7176dc6ed80557a2f7837f9f0339592fbee677d405a553af15f88", "phi3-mini"},
    {"605841622bcb6572225608f09ec2afcdfb9fb50844ef52715a12689f7b9278b1", "phi3-medium"},
    {"b0e53f5e7bae6fdb93013abeceef343e8841cce87def2601e7269a53439b5740", "phi3-small"},
    {"dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa", "phi3"},
    {"78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90", "phi3.5"},
    {"a41fb8727c4f1e722e53cb1ea935038a1177b8bdf09387f3b048f9da5255ef3e", "phi4"},
    {"66291cf0045c2425a3a667cf3cbb7af2b11f09e025c02f97245323ab79119362", "zephyr"},
};

absl::Status NotText(const std::string& path, const json& value) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, " has \"chat_template\": ", QuoteJson(value),
      ", which is neither a text nor a list of templates with a \"name\" and a \"template\""));
}

// A template, or several with names.
absl::StatusOr<std::optional<std::string>> TemplateText(const std::string& path,
                                                        const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return NotText(path, value);
  for (const json& item : value) {
    const auto is_text = [&](const char* key) {
      return item.is_object() && item.contains(key) && item[key].is_string();
    };
    if (!is_text("name") || !is_text("template")) return NotText(path, value);
    if (item["name"] == "default") return item["template"].get<std::string>();
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> ReadOwnFile(const std::string& path) {
  auto text = ReadFile(path);
  if (text.ok()) return *std::move(text);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  return text.status();
}

absl::StatusOr<std::optional<std::string>> ReadFromConfig(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const auto text, ReadOwnFile(path));
  if (!text.has_value()) return std::nullopt;
  STRAKE_ASSIGN_OR_RETURN(const json config, ParseJson(*text, path));
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is ", QuoteJson(config), ", no object"));
  }
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::nullopt;
  return TemplateText(path, *found);
}

}  // namespace

std::string ChatTemplateHash(absl::string_view text) {
  return Sha256Hex(absl::StripSuffix(text, "\n"));
}

const ChatFormat* FormatOfChatTemplate(absl::string_view hash) {
  for (const KnownTemplate& known : kKnown) {
    if (known.hash == hash) return FindChatFormat(known.format).value();
  }
  return nullptr;
}

absl::StatusOr<std::optional<std::string>> ReadChatTemplate(const std::string& folder) {
  STRAKE_ASSIGN_OR_RETURN(auto text, ReadOwnFile(absl::StrCat(folder, "/chat_template.jinja")));
  if (text.has_value()) return text;
  return ReadFromConfig(absl::StrCat(folder, "/tokenizer_config.json"));
}

absl::StatusOr<const ChatFormat*> ChatFormatOfModel(const std::string& folder) {
  STRAKE_ASSIGN_OR_RETURN(const auto text, ReadChatTemplate(folder));
  const auto not_found = [&](const std::string& why) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": ", why, "; choose a chat format of ", ChatFormatNames()));
  };
  if (!text.has_value()) {
    return not_found(
        "there is no chat template (chat_template.jinja, or \"chat_template\" of "
        "tokenizer_config.json)");
  }
  const std::string hash = ChatTemplateHash(*text);
  if (const ChatFormat* const format = FormatOfChatTemplate(hash)) return format;
  return not_found(absl::StrCat("its chat template is not known (SHA-256 ", hash, ")"));
}

}  // namespace strake
