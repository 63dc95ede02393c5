#include "train/run/training_data.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

absl::StatusOr<TokenStream> OpenStream(const std::string& name,
                                       const std::vector<std::string>& files, int64_t vocab_size) {
  auto stream = TokenStream::Open(files, vocab_size);
  if (stream.ok()) return stream;
  return absl::Status(stream.status().code(), absl::StrCat(name, ": ", stream.status().message()));
}

// "train_files=a.txt and 3 more".
std::string NameAndFiles(const std::string& name, const std::vector<std::string>& files) {
  return absl::StrCat(name, "=", files.front(),
                      files.size() > 1 ? absl::StrCat(" and ", files.size() - 1, " more") : "");
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingData>> TrainingData::Open(const TrainerOptions& options) {
  std::unique_ptr<TrainingData> data(new TrainingData());
  data->max_fingerprint_tokens_ = options.data_fingerprint_tokens;
  const OptionNames& names = options.names;
  const int64_t vocab_size = options.engine.model.vocab_size, seq_len = options.engine.seq_len;
  STRAKE_ASSIGN_OR_RETURN(data->train_stream_,
                          OpenStream(names.train_files, options.train_files, vocab_size));
  std::optional<int64_t> val_tokens;
  if (!options.val_files.empty()) {
    STRAKE_ASSIGN_OR_RETURN(data->val_stream_,
                            OpenStream(names.val_files, options.val_files, vocab_size));
    val_tokens = data->val_stream_->num_tokens();
  }
  const auto split = SplitTrainVal(data->train_stream_->num_tokens(), val_tokens, seq_len);
  if (!split.ok()) {
    return absl::Status(
        split.status().code(),
        absl::StrCat(NameAndFiles(names.train_files, options.train_files),
                     val_tokens ? " " + NameAndFiles(names.val_files, options.val_files) : "", ": ",
                     split.status().message()));
  }
  data->split_ = *split;
  STRAKE_ASSIGN_OR_RETURN(
      data->train_loader_,
      DataLoader::Create(&*data->train_stream_, split->train.begin, split->train.end,
                         {seq_len, static_cast<uint64_t>(options.seed), options.shuffle}));
  STRAKE_ASSIGN_OR_RETURN(data->val_loader_,
                          DataLoader::Create(&data->val_stream(), split->val.begin, split->val.end,
                                             {seq_len, 0, /*shuffle=*/false}));
  return data;
}

std::vector<std::string> TrainingData::CommonFiles() const {
  if (!val_stream_.has_value()) return {};
  std::set<std::string> trained_on;
  std::vector<std::string> common;
  std::error_code error;
  for (const TokenFile& file : train_stream_->files()) {
    trained_on.insert(std::filesystem::canonical(file.path(), error));
  }
  for (const TokenFile& file : val_stream_->files()) {
    if (trained_on.count(std::filesystem::canonical(file.path(), error))) {
      common.push_back(file.path());
    }
  }
  return common;
}

std::string TrainingData::Label() const {
  const auto& files = train_stream_->files();
  if (files.size() == 1) return std::filesystem::path(files.front().path()).filename();
  return absl::StrCat(files.size(), " files");
}

std::string TrainingData::FingerprintOf(bool all_tokens, ThreadTeam& team) const {
  const std::string digits = all_tokens ? train_stream_->AllTokens(team).ToString()
                                        : absl::StrFormat("%016x", train_stream_->SampledTokens());
  return absl::StrCat(digits, ", tokens 0 to ", split_.train.end);
}

std::string TrainingData::Fingerprint(ThreadTeam& team) const {
  return FingerprintOf(all_tokens_count(), team);
}

std::string TrainingData::FingerprintLike(const std::string& recorded, ThreadTeam& team) const {
  constexpr size_t kDigitsOfSamples = 16;
  return FingerprintOf(recorded.find(',') != kDigitsOfSamples, team);
}

int64_t TrainingData::TimeOfSampledFiles() const {
  int64_t newest = 0;
  if (all_tokens_count()) return newest;
  for (const TokenFile& file : train_stream_->files()) {
    struct stat info;
    if (stat(file.path().c_str(), &info) == 0) {
      newest = std::max<int64_t>(newest, info.st_mtim.tv_sec);
    }
  }
  return newest;
}

absl::StatusOr<std::vector<int32_t>> TrainingData::FirstValTokens(int64_t count) const {
  std::vector<int32_t> tokens(count);
  STRAKE_RETURN_IF_ERROR(val_stream().Read(split_.val.begin, count, tokens.data()));
  return tokens;
}

bool TrainingData::is_text() const {
  for (const TokenFile& file : train_stream_->files()) {
    if (file.encoding() != TokenEncoding::kBytes) return false;
  }
  return true;
}

std::string TrainingData::ToText(const std::vector<int32_t>& tokens) const {
  std::string text;
  if (!is_text()) {
    for (const int32_t token : tokens) absl::StrAppend(&text, text.empty() ? "" : " ", token);
    return text;
  }
  for (const int32_t token : tokens) {
    // A model that has learned little writes control characters, which would affect the terminal,
    // and, with a vocabulary above 256, tokens that are not bytes.
    const bool control = (token < ' ' && token != '\n' && token != '\t') || token == 0x7f;
    const bool is_byte = !control && token <= 0xff;
    if (!is_byte) absl::StrAppendFormat(&text, "\\x%02x", token);
    if (is_byte) text += static_cast<char>(token);
  }
  return text;
}

}  // namespace strake
