// For any text, parsing a file of options returns an error, or values that their ranges allow.
#include <cstddef>
#include <cstdint>
#include <string>

#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "tools/cli/options.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string model = "llama-tiny", schedule = "cosine", out, files;
  int64_t seq_len = 8;
  double beta1 = 0.5;
  bool shuffle = true;
  strake::OptionSet options("fuzz");
  options.Add("model", &model, "");
  options.Add("schedule", &schedule, "", {"cosine", "wsd"});
  options.Add("seq_len", &seq_len, "", strake::Range::Between(1, 1e9));
  options.Add("beta1", &beta1, "", strake::Range::HalfOpen(0, 1));
  options.Add("shuffle", &shuffle, "");
  options.Add("out", &out, "");
  options.Add("files", &files, "");
  options.Paths({"out"});
  options.PathLists({"files"});
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::Status status = options.ParseJson(text, "fuzz");
  CHECK(schedule == "cosine" || schedule == "wsd") << schedule;
  CHECK(seq_len >= 1 && seq_len <= 1000000000) << seq_len;
  CHECK(beta1 >= 0 && beta1 < 1) << beta1;
  if (!status.ok()) {
    CHECK(!status.message().empty());
    return 0;
  }
  const std::string written = options.ToJson().dump();
  CHECK(options.ParseJson(written, "again").ok()) << written;
  CHECK_EQ(options.ToJson().dump(), written);
  return 0;
}
