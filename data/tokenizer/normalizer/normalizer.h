// NormalizerChain: what a spec's normalizers do to a text, one after the other.
//
// Bytes that are no character pass unchanged.
#ifndef STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_H_
#define STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;

  // Writes what becomes of `text`, unless that is `text` itself: then returns false.
  // `continues`: something went before in the same text.
  virtual bool Apply(absl::string_view text, bool continues, std::string* result) const = 0;

  // Whether, before a blank (0x20) that follows an ASCII character other than white space, a text
  // may be cut, and each part (the second continues) normalized by itself.
  virtual bool cuts_at_blanks() const { return true; }
};

class NormalizerChain {
 public:
  // InvalidArgument for an expression that PCRE2 does not take, and a broken map of characters.
  static absl::StatusOr<NormalizerChain> Create(absl::Span<const Normalizer> normalizers);

  bool empty() const { return steps_.empty(); }
  bool cuts_at_blanks() const;

  // What becomes of `text`: `text` itself where nothing changes, else a view of `*buffer`.
  absl::string_view Apply(absl::string_view text, bool continues, std::string* buffer) const;

 private:
  std::vector<std::unique_ptr<const NormalizerStep>> steps_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_H_
