// AddedTokenMatcher: where added tokens stand in a text.
//
// As Hugging Face's tokenizers does: the leftmost, of these the longest, then on from its end. A
// match that single_word refuses hides others within it all the same. Blanks that rstrip takes
// along may be a match again.
#ifndef STRAKE_DATA_TOKENIZER_ADDED_TOKEN_MATCHER_H_
#define STRAKE_DATA_TOKENIZER_ADDED_TOKEN_MATCHER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin, end;  // with the blanks that it takes along
    int32_t id;
  };

  AddedTokenMatcher() : AddedTokenMatcher(std::vector<AddedToken>()) {}
  // Tokens without text are left out; of two with one text the last one counts.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // Where the next search begins, and what is used up of the text.
  struct Cursor {
    size_t search = 0, used = 0;
  };
  // The next match in `text`. False: none.
  bool Next(absl::string_view text, Cursor* cursor, Match* match) const;

  bool has_inner_blank() const { return has_inner_blank_; }
  // Whether, whatever follows `text`, its matches are those of text[0, at) and of what is left.
  // `at` is less than text.size().
  bool MayCut(absl::string_view text, size_t at) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> children = {};  // byte and node
    int32_t token = -1;                                      // in tokens_
  };

  void Insert(int32_t token);
  int32_t Child(int32_t node, uint8_t byte) const;
  // The first place at or after `begin` whose byte begins a token.
  size_t NextCandidate(absl::string_view text, size_t begin) const;
  // The longest token at this place, or -1.
  int32_t LongestAt(absl::string_view text, size_t begin) const;
  // How far a token that begins there may reach: to its end, or to that of the text.
  size_t ReachFrom(absl::string_view text, size_t begin) const;
  bool EndsToken(absl::string_view text, size_t at) const;
  bool IsRefused(const AddedToken& token, absl::string_view text, size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;  // by first byte; 0: none
  int num_first_bytes_ = 0;
  char first_byte_ = 0;
  size_t longest_ = 0;
  bool has_inner_blank_ = false;
  bool looks_around_ = false;  // some token has lstrip, rstrip or single_word
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_ADDED_TOKEN_MATCHER_H_
