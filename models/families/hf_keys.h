// HfKeys: typed, checked access to the keys of one JSON object of a Hugging Face `config.json`.
#ifndef STRAKE_MODELS_FAMILIES_HF_KEYS_H_
#define STRAKE_MODELS_FAMILIES_HF_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// The first error is kept, and later reads return defaults, so that callers read all keys and check
// status() once. A key whose value is null counts as absent.
class HfKeys {
 public:
  // `source` is the object's name in errors. The object must outlive this. `notices` may be null.
  HfKeys(const nlohmann::json& object, std::string source, std::vector<std::string>* notices);

  const absl::Status& status() const { return status_; }
  const std::string& source() const { return source_; }

  bool Has(const char* key) const;
  const nlohmann::json& At(const char* key) const;

  void Fail(absl::string_view message);

  // Reads a size: an integer from 1 to 2^40. Without a default the key is required.
  int64_t Size(const char* key, std::optional<int64_t> fallback = std::nullopt);
  // Reads a required size that has two names; both may be given if they are equal.
  int64_t SizeOfTwoNames(const char* key, const char* other);
  // Reads a finite number in [min, max].
  double Number(const char* key, double fallback, double min, double max);
  // Does not take null: which of the two it means depends on the version of transformers.
  bool Bool(const char* key, bool fallback);
  // Reads a word; it must be one of `supported`, the first of which is transformers' default.
  std::string Word(const char* key, const std::vector<std::string>& supported);
  void MustBe(const char* key, bool required);
  // Fails where the key is given: a value that has no meaning here, for this reason.
  void MustBeAbsent(const char* key, absl::string_view reason);

  void Note(absl::string_view message);

  // Adds a notice where one of these dropout probabilities is not 0, since dropout is not applied.
  void NoteDropout(const std::vector<const char*>& keys, double fallback);

 private:
  const nlohmann::json& object_;
  const std::string source_;
  std::vector<std::string>* const notices_;
  absl::Status status_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_HF_KEYS_H_
