#include "data/tokenizer/added_token_matcher.h"

#include <algorithm>
#include <cstring>

#include "data/tokenizer/text_chars.h"

namespace strake {
namespace {

bool LooksAround(const AddedToken& token) {
  return token.lstrip || token.rstrip || token.single_word;
}

// Whether a blank, or what stands for one, follows something else in it.
bool HasInnerBlank(const AddedToken& token) {
  const absl::string_view rest = absl::string_view(token.text).substr(1);
  return rest.find(' ') != rest.npos || rest.find("\xE2\x96\x81") != rest.npos;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), nodes_(1) {
  roots_.fill(0);
  tokens_.erase(std::remove_if(tokens_.begin(), tokens_.end(),
                               [](const AddedToken& token) { return token.text.empty(); }),
                tokens_.end());
  for (int32_t i = 0; i < tokens_.size(); ++i) Insert(i);
  for (const auto& [byte, node] : nodes_[0].children) {
    roots_[byte] = node;
    first_byte_ = static_cast<char>(byte);
  }
  num_first_bytes_ = static_cast<int>(nodes_[0].children.size());
  for (const AddedToken& token : tokens_) longest_ = std::max(longest_, token.text.size());
  looks_around_ = std::any_of(tokens_.begin(), tokens_.end(), LooksAround);
  has_inner_blank_ = std::any_of(tokens_.begin(), tokens_.end(), HasInnerBlank);
}

void AddedTokenMatcher::Insert(int32_t token) {
  int32_t node = 0;
  for (const char c : tokens_[token].text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, child);
      nodes_.emplace_back();
    }
    node = child;
  }
  nodes_[node].token = token;
}

int32_t AddedTokenMatcher::Child(int32_t node, uint8_t byte) const {
  for (const auto& [child_byte, child] : nodes_[node].children) {
    if (child_byte == byte) return child;
  }
  return 0;
}

size_t AddedTokenMatcher::NextCandidate(absl::string_view text, size_t begin) const {
  if (num_first_bytes_ == 1) return std::min(text.find(first_byte_, begin), text.size());
  while (begin < text.size() && roots_[static_cast<uint8_t>(text[begin])] == 0) ++begin;
  return begin;
}

int32_t AddedTokenMatcher::LongestAt(absl::string_view text, size_t begin) const {
  int32_t longest = -1;
  int32_t node = roots_[static_cast<uint8_t>(text[begin])];
  for (size_t i = begin + 1; node != 0; ++i) {
    if (nodes_[node].token >= 0) longest = nodes_[node].token;
    if (i == text.size()) break;
    node = Child(node, static_cast<uint8_t>(text[i]));
  }
  return longest;
}

size_t AddedTokenMatcher::ReachFrom(absl::string_view text, size_t begin) const {
  size_t reach = begin;
  int32_t node = roots_[static_cast<uint8_t>(text[begin])];
  for (size_t i = begin + 1; node != 0; ++i) {
    if (nodes_[node].token >= 0 || i == text.size()) reach = i;
    if (i == text.size()) break;
    node = Child(node, static_cast<uint8_t>(text[i]));
  }
  return reach;
}

bool AddedTokenMatcher::EndsToken(absl::string_view text, size_t at) const {
  return std::any_of(tokens_.begin(), tokens_.end(), [&](const AddedToken& token) {
    const size_t size = token.text.size();
    return size <= at && text.substr(at - size, size) == token.text;
  });
}

bool AddedTokenMatcher::MayCut(absl::string_view text, size_t at) const {
  if (tokens_.empty()) return true;
  for (size_t begin = at - std::min(at, longest_); begin < at; ++begin) {
    if (ReachFrom(text, begin) > at) return false;
  }
  if (!looks_around_) return true;
  return TrailingWhiteSpace(text.substr(0, at)) == 0 && !EndsToken(text, at) &&
         ReachFrom(text, at) == at;
}

bool AddedTokenMatcher::IsRefused(const AddedToken& token, absl::string_view text,
                                  size_t begin) const {
  if (!token.single_word) return false;
  return EndsWithWordChar(text.substr(0, begin)) ||
         BeginsWithWordChar(text.substr(begin + token.text.size()));
}

bool AddedTokenMatcher::Next(absl::string_view text, Cursor* cursor, Match* match) const {
  if (tokens_.empty()) return false;
  size_t& at = cursor->search;
  while ((at = NextCandidate(text, at)) < text.size()) {
    const int32_t index = LongestAt(text, at);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[index];
    const size_t begin = at;
    at += token.text.size();
    if (IsRefused(token, text, begin)) continue;
    *match = {begin, at, token.id};
    if (token.lstrip) {
      match->begin = std::max(begin - TrailingWhiteSpace(text.substr(0, begin)), cursor->used);
    }
    if (token.rstrip) match->end += LeadingWhiteSpace(text.substr(at));
    cursor->used = match->end;
    return true;
  }
  return false;
}

}  // namespace strake
