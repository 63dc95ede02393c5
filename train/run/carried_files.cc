#include "train/run/carried_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/format_quantity.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxSumBytes = int64_t{256} << 20;

// Returns true for what a checkpoint has of its own, and for what belongs to the original's weights
// or training.
bool IsReplaced(const std::string& name) {
  static constexpr const char* kNames[] = {"config.json", "adapter_config.json", "run.json",
                                           "manifest.json", "trainer_state.json"};
  // Weights of PyTorch, TensorFlow, Flax, Rust, GGML, ONNX and Core ML, tensors of NumPy, indices
  // of weights in several files, archives, and files that are being written.
  static constexpr const char* kEnds[] = {
      ".safetensors", ".bin", ".pt",     ".pth",       ".ckpt",    ".index.json", ".h5",
      ".msgpack",     ".ot",  ".gguf",   ".ggml",      ".pb",      ".onnx",       ".onnx_data",
      ".npy",         ".npz", ".tflite", ".nemo",      ".mlmodel", ".zip",        ".tar",
      ".gz",          ".zst", ".tmp",    ".incomplete"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const char* each) { return name == each; }) ||
         std::any_of(std::begin(kEnds), std::end(kEnds),
                     [&](const char* end) { return absl::EndsWithIgnoreCase(name, end); });
}

bool IsChatTemplate(const std::string& name) {
  return absl::StartsWith(name, "chat_template") || absl::StartsWith(name, kChatTemplatesFolder);
}

int64_t MaxBytes(const std::string& name) {
  return IsOfTokenizer(name) && !IsChatTemplate(name) ? kMaxTokenizerFileBytes : kMaxOtherFileBytes;
}

bool IsPlainText(const std::string& name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isprint(c); });
}

// Returns true if the file that a symbolic link leads to belongs to the directory.
bool StaysInside(const fs::path& directory, const fs::path& link) {
  std::error_code error;
  const fs::path target = fs::canonical(link, error);
  if (error) return true;  // reading it gives the reason
  const fs::path home = fs::canonical(directory, error);
  const fs::path parent = target.parent_path();
  return parent == home || parent == home / kChatTemplatesFolder ||
         parent == home.parent_path().parent_path() / "blobs";
}

// What a directory's files are found by, and where they go.
struct Listing {
  const std::string& directory;
  std::vector<std::string>* names;
  std::vector<std::string>* skipped;
};

// Adds the files to carry of directory + "/" + folder, whose names begin with `folder`: "" or one
// that ends with "/".
absl::Status ListFolder(const std::string& folder, const Listing& listing) {
  const std::string path =
      folder.empty() ? listing.directory : absl::StrCat(listing.directory, "/", folder);
  std::error_code error;
  fs::directory_iterator entry(path, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string file = entry->path().filename().string(), name = folder + file;
    if (absl::StartsWith(file, ".") || IsReplaced(file)) continue;
    std::error_code unknown;
    const fs::file_status status = entry->status(unknown);
    const bool of_templates = name == kChatTemplatesFolder && fs::is_directory(status);
    // A link to nothing, or a file that the system does not show, is an error when it is read.
    const bool readable = fs::is_regular_file(status) || status.type() == fs::file_type::none ||
                          status.type() == fs::file_type::not_found;
    if (!readable && !of_templates) continue;
    const auto skip = [&](absl::string_view reason) {
      listing.skipped->push_back(
          absl::StrCat(listing.directory, "/", name, " is not carried over: ", reason));
    };
    if (!IsPlainText(name)) {
      skip("its name is not plain text");
    } else if (entry->is_symlink(unknown) && !StaysInside(listing.directory, entry->path())) {
      skip("it is a link to another folder");
    } else if (of_templates) {
      STRAKE_RETURN_IF_ERROR(ListFolder(name + "/", listing));
    } else if (const uintmax_t size = entry->file_size(unknown);
               !unknown && size > static_cast<uintmax_t>(MaxBytes(name))) {
      skip(absl::StrCat("it is larger than ", FormatBytes(static_cast<double>(MaxBytes(name)))));
    } else {
      listing.names->push_back(name);
    }
  }
  if (error) return SystemError("list", path, error.value());
  return absl::OkStatus();
}

// The names of the files to carry, in order.
absl::StatusOr<std::vector<std::string>> ListFiles(const std::string& directory,
                                                   std::vector<std::string>* skipped) {
  std::vector<std::string> names;
  STRAKE_RETURN_IF_ERROR(
      ListFolder("", {.directory = directory, .names = &names, .skipped = skipped}));
  std::sort(names.begin(), names.end());
  std::sort(skipped->begin(), skipped->end());
  return names;
}

}  // namespace

absl::StatusOr<CarriedFiles> ReadCarriedFiles(const std::string& directory,
                                              std::vector<std::string>* skipped) {
  STRAKE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFiles(directory, skipped));
  CarriedFiles files;
  int64_t num_bytes = 0;
  for (const std::string& name : names) {
    STRAKE_ASSIGN_OR_RETURN(files[name],
                            ReadFile(absl::StrCat(directory, "/", name), MaxBytes(name)));
    num_bytes += static_cast<int64_t>(files[name].size());
    if (num_bytes > kMaxSumBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          directory, ": the files beside the weights, which are carried over, are larger than ",
          FormatBytes(kMaxSumBytes), "; leave only the model's there"));
    }
  }
  return files;
}

absl::Status MakeFoldersOf(const CarriedFiles& files, const std::string& directory) {
  const bool any = std::any_of(files.begin(), files.end(),
                               [](const auto& file) { return absl::StrContains(file.first, '/'); });
  if (!any) return absl::OkStatus();
  return MakeDirectoriesDurably(absl::StrCat(directory, "/", kChatTemplatesFolder));
}

bool IsOfTokenizer(const std::string& name) {
  static constexpr const char* kBegins[] = {
      "tokenizer",          "vocab",  "encoder",     "merges", "spiece", "sentencepiece",
      "special_tokens_map", "tekken", "added_tokens"};
  return std::any_of(std::begin(kBegins), std::end(kBegins),
                     [&](auto begin) { return absl::StartsWith(name, begin); }) ||
         absl::EndsWith(name, ".model") || absl::EndsWith(name, ".tiktoken") ||
         IsChatTemplate(name);
}

bool CarriesTokenizer(const CarriedFiles& files) {
  return std::any_of(files.begin(), files.end(), [](const auto& file) {
    const std::string& name = file.first;
    return name == "tokenizer.json" || name == "vocab.json" || name == "encoder.json" ||
           name == "tekken.json" || absl::EndsWith(name, ".model") ||
           absl::EndsWith(name, ".tiktoken");
  });
}

}  // namespace strake
