// HfKeys: typed, checked access to the keys of one JSON object of a Hugging Face `config.json`.
#ifndef STRAKE_MODELS_FAMILIES_HF_KEYS_H_
#define STRAKE_MODELS_FAMILIES_HF_KEYS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// The first error is kept, and later reads return defaults, so that callers read all keys and check
// status() once. A key whose value is null counts as absent, except where a comment says otherwise.
class HfKeys {
 public:
  // kRead: the value is part of the model. kChecked: one value is supported, and others are
  // refused.
  enum class Use { kRead, kChecked };

  // `source` is the object's name in errors. The object must outlive this. `notices` may be null.
  HfKeys(const nlohmann::json& object, std::string source, std::vector<std::string>* notices);
  HfKeys(const HfKeys&) = delete;
  HfKeys& operator=(const HfKeys&) = delete;

  // The keys of the object at `key`, whose errors and uses become this one's. Fails where the value
  // is no object. `this` must outlive the result.
  HfKeys Object(const char* key);

  const absl::Status& status() const { return status_; }
  const std::string& source() const { return source_; }

  bool Has(const char* key);
  bool IsNull(const char* key);  // given, with the value null
  const nlohmann::json& At(const char* key);

  void Fail(absl::string_view message);

  // Reads a size: an integer from `min` to 2^40. Without a default the key is required.
  int64_t Size(const char* key, std::optional<int64_t> fallback = std::nullopt, int64_t min = 1);
  // Reads a required size that has two names; both may be given if they are equal.
  int64_t SizeOfTwoNames(const char* key, const char* other);
  // Reads a size whose value null means 0, and whose default is `fallback`.
  int64_t SizeOrNull(const char* key, int64_t fallback);
  // Reads a finite number in [min, max].
  double Number(const char* key, double fallback, double min, double max);
  // Reads a number above 0 whose value null means 0, and whose default is `fallback`.
  double PositiveOrNull(const char* key, double fallback);
  // Reads a list of numbers in [min, max]; empty where the key is absent.
  std::vector<double> Numbers(const char* key, double min, double max);
  // Does not take null: which of the two it means depends on the version of transformers.
  bool Bool(const char* key, bool fallback);
  // Reads a word; it must be one of `supported`, the first of which is transformers' default.
  std::string Word(const char* key, const std::vector<std::string>& supported);
  // Reads a list of words, each one of `supported`; empty where the key is absent.
  std::vector<std::string> Words(const char* key, const std::vector<std::string>& supported);
  void MustBe(const char* key, bool required);
  // Fails where the key is given: a value that has no meaning here, for this reason.
  void MustBeAbsent(const char* key, absl::string_view reason);

  void Note(absl::string_view message);

  // Adds a notice where one of these dropout probabilities is not 0, since dropout is not applied.
  void NoteDropout(const std::vector<const char*>& keys, double fallback);

  // Keys that were asked for, whether given or not; "a.b" for the key b of Object("a").
  const std::map<std::string, Use>& uses() const { return uses_; }
  // Keys whose value is not null and that nothing has asked for.
  std::vector<std::string> UnusedKeys() const;

 private:
  HfKeys(HfKeys* parent, const char* key, const nlohmann::json& object);

  void SetUse(const std::string& key, Use use);
  // Fails with the value and what it must be, and returns false, where `good` is false.
  bool Require(bool good, const char* key, absl::string_view must_be);
  void AddUnused(const nlohmann::json& object, const std::string& prefix,
                 std::vector<std::string>* unused) const;

  const nlohmann::json& object_;
  const std::string source_;
  std::vector<std::string>* const notices_;
  HfKeys* const parent_ = nullptr;
  const std::string key_;  // this object's in the parent
  absl::Status status_;
  std::map<std::string, Use> uses_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_HF_KEYS_H_
