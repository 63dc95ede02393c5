#include "data/tokenizer/pre_tokenizer.h"

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/pcre2_splitter.h"

namespace strake {
namespace {

using Behavior = PreTokenizer::Behavior;
using Kind = PreTokenizer::Kind;
using Range = TextPieces::Range;

// Punctuation of ASCII, symbols among it, and Unicode's.
constexpr char kPunctuationPattern[] = R"([!-/:-@\[-`{-~\p{P}])";
// \w as Unicode's Technical Standard 18 has it: PCRE2's is smaller.
#define STRAKE_WORD_CHARS                                                               \
  R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149})" \
  R"(\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})"
constexpr char kWhitespacePattern[] = "[" STRAKE_WORD_CHARS "]+|[^" STRAKE_WORD_CHARS R"(\s]+)";

std::string Quoted(absl::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (absl::ascii_ispunct(static_cast<unsigned char>(c)) || c == ' ') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// Ranges of matches and of what lies between them to pieces, as a behavior says.
class PieceMaker {
 public:
  PieceMaker(Behavior behavior, std::vector<Range>* pieces)
      : behavior_(behavior), pieces_(*pieces), first_(pieces->size()) {}

  void Add(Range range, bool is_match) {
    if (range.begin == range.end) return;
    const bool joins = !IsFirst() && Joins(is_match);
    if (behavior_ == Behavior::kRemoved && is_match) {
      // Nothing stays of it.
    } else if (joins) {
      pieces_.back().end = range.end;
    } else {
      pieces_.push_back(range);
    }
    follows_match_ = is_match;
  }

 private:
  bool IsFirst() const { return pieces_.size() == first_; }
  bool Joins(bool is_match) const {
    switch (behavior_) {
      case Behavior::kIsolated:
      case Behavior::kRemoved:
        return false;
      case Behavior::kMergedWithPrevious:
        return is_match && !follows_match_;
      case Behavior::kMergedWithNext:
        return !is_match && follows_match_;
      case Behavior::kContiguous:
        return is_match == follows_match_;
    }
    return false;
  }

  const Behavior behavior_;
  std::vector<Range>& pieces_;
  const size_t first_;
  bool follows_match_ = false;
};

class RegexStep : public PreTokenizerStep {
 public:
  RegexStep(std::unique_ptr<const RegularExpression> expression, Behavior behavior, bool invert)
      : expression_(std::move(expression)), behavior_(behavior), invert_(invert) {}

  void Apply(TextPieces* pieces) const override {
    std::vector<Range> result;
    for (const Range range : pieces->ranges) Cut(pieces->text, range, &result);
    pieces->ranges = std::move(result);
  }

 private:
  void Cut(absl::string_view text, Range range, std::vector<Range>* result) const {
    std::vector<RegularExpression::Match> matches;
    const auto piece = text.substr(range.begin, range.end - range.begin);
    if (!expression_->FindMatches(piece, &matches).ok()) matches.clear();
    PieceMaker maker(behavior_, result);
    size_t end = range.begin;
    for (const auto& match : matches) {
      maker.Add({end, range.begin + match.begin}, invert_);
      end = range.begin + match.end;
      maker.Add({range.begin + match.begin, end}, !invert_);
    }
    maker.Add({end, range.end}, invert_);
  }

  const std::unique_ptr<const RegularExpression> expression_;
  const Behavior behavior_;
  const bool invert_;
};

class SplitterStep : public PreTokenizerStep {
 public:
  explicit SplitterStep(std::unique_ptr<const Splitter> splitter)
      : splitter_(std::move(splitter)) {}

  void Apply(TextPieces* pieces) const override {
    std::vector<Range> result;
    std::vector<uint32_t> ends;
    for (const Range range : pieces->ranges) {
      ends.clear();
      const auto piece = pieces->text.substr(range.begin, range.end - range.begin);
      if (!splitter_->Split(piece, &ends).ok()) ends = {static_cast<uint32_t>(piece.size())};
      size_t begin = range.begin;
      for (const uint32_t end : ends) {
        result.push_back({begin, range.begin + end});
        begin = range.begin + end;
      }
    }
    pieces->ranges = std::move(result);
  }
  bool cuts_at_blanks() const override { return KnowsCuts(*splitter_); }

 private:
  const std::unique_ptr<const Splitter> splitter_;
};

// A step that changes pieces' text: it writes them one after the other.
class RewritingStep : public PreTokenizerStep {
 public:
  void Apply(TextPieces* pieces) const final {
    std::string changed;
    std::vector<Range> result;
    for (const Range range : pieces->ranges) {
      const size_t begin = changed.size();
      Rewrite(pieces->text.substr(range.begin, range.end - range.begin),
              pieces->begins_text && range.begin == 0, &changed);
      Cut(changed, {begin, changed.size()}, &result);
    }
    pieces->ranges = std::move(result);
    pieces->changed = std::move(changed);
    pieces->text = pieces->changed;
  }

 private:
  virtual void Rewrite(absl::string_view piece, bool begins_text, std::string* out) const = 0;
  virtual void Cut(absl::string_view /*text*/, Range range, std::vector<Range>* result) const {
    result->push_back(range);
  }
};

class PrefixBlankStep : public RewritingStep {
 public:
  bool keeps_blanks() const override { return true; }

 private:
  void Rewrite(absl::string_view piece, bool /*begins_text*/, std::string* out) const override {
    if (piece.empty() || piece[0] != ' ') out->push_back(' ');
    out->append(piece.data(), piece.size());
  }
};

class MetaspaceStep : public RewritingStep {
 public:
  explicit MetaspaceStep(const PreTokenizer& spec)
      : mark_(spec.pattern), prepend_(spec.prepend), split_(spec.split) {}

  bool cuts_at_blanks() const override { return split_; }

 private:
  void Rewrite(absl::string_view piece, bool begins_text, std::string* out) const override {
    const bool prepends = prepend_ == PreTokenizer::Prepend::kAlways ||
                          (prepend_ == PreTokenizer::Prepend::kFirst && begins_text);
    const bool begins_with_mark =
        piece.substr(0, 1) == " " || piece.substr(0, mark_.size()) == mark_;
    if (prepends && !begins_with_mark) out->append(mark_);
    for (const char c : piece) {
      if (c == ' ') {
        out->append(mark_);
      } else {
        out->push_back(c);
      }
    }
  }

  void Cut(absl::string_view text, Range range, std::vector<Range>* result) const override {
    if (!split_) {
      result->push_back(range);
      return;
    }
    const absl::string_view piece = text.substr(0, range.end);
    PieceMaker maker(Behavior::kMergedWithNext, result);
    size_t begin = range.begin;
    for (size_t at; (at = piece.find(mark_, begin)) != absl::string_view::npos;
         begin = at + mark_.size()) {
      maker.Add({begin, at}, false);
      maker.Add({at, at + mark_.size()}, true);
    }
    maker.Add({begin, range.end}, false);
  }

  const std::string mark_;
  const PreTokenizer::Prepend prepend_;
  const bool split_;
};

// What cuts text at matches of an expression, in the words of kSplit.
PreTokenizer AsSplit(const PreTokenizer& spec) {
  PreTokenizer split = spec;
  split.kind = Kind::kSplit;
  if (spec.kind == Kind::kDigits) {
    split.pattern = spec.individual ? kDigitPattern : kDigitsPattern;
    split.behavior = Behavior::kIsolated;
  } else if (spec.kind == Kind::kPunctuation) {
    split.pattern = kPunctuationPattern;
  } else if (spec.kind == Kind::kWhitespace) {
    split.pattern = kWhitespacePattern;
    split.behavior = Behavior::kRemoved;
    split.invert = true;
  } else if (spec.kind == Kind::kByteLevel) {
    split.pattern = kGpt2Words;
    split.behavior = Behavior::kIsolated;
  } else if (spec.literal) {
    split.pattern = Quoted(spec.pattern);
  }
  if (spec.kind == Kind::kDigits || spec.kind == Kind::kByteLevel) split.invert = false;
  return split;
}

// Whether the pieces are all words of a Splitter.
absl::StatusOr<bool> IsIsolated(const PreTokenizer& split) {
  if (split.behavior == Behavior::kIsolated) return true;
  if (split.behavior != Behavior::kRemoved || !split.invert) return false;
  STRAKE_ASSIGN_OR_RETURN(const auto splitter, MakeSplitter({split.pattern}));
  return splitter->covers_all();
}

// Makes steps; patterns that follow one another become one splitter.
class StepMaker {
 public:
  absl::Status Add(const PreTokenizer& spec) {
    if (spec.kind == Kind::kMetaspace) {
      STRAKE_RETURN_IF_ERROR(EndPatterns());
      steps.push_back(std::make_unique<MetaspaceStep>(spec));
      return absl::OkStatus();
    }
    if (spec.kind == Kind::kByteLevel && spec.add_prefix_space) {
      STRAKE_RETURN_IF_ERROR(EndPatterns());
      steps.push_back(std::make_unique<PrefixBlankStep>());
    }
    if (spec.kind == Kind::kByteLevel && !spec.use_regex) return absl::OkStatus();
    return AddSplit(AsSplit(spec));
  }

  absl::Status EndPatterns() {
    if (patterns_.empty()) return absl::OkStatus();
    STRAKE_ASSIGN_OR_RETURN(auto made, MakeSplitter(patterns_));
    patterns_.clear();
    if (steps.empty() && splitter == nullptr) {
      splitter = std::move(made);
    } else {
      steps.push_back(std::make_unique<SplitterStep>(std::move(made)));
    }
    return absl::OkStatus();
  }

  std::unique_ptr<const Splitter> splitter;
  std::vector<std::unique_ptr<const PreTokenizerStep>> steps;

 private:
  absl::Status AddSplit(const PreTokenizer& split) {
    STRAKE_ASSIGN_OR_RETURN(const bool is_isolated, IsIsolated(split));
    if (is_isolated) {
      patterns_.push_back(split.pattern);
      return absl::OkStatus();
    }
    STRAKE_RETURN_IF_ERROR(EndPatterns());
    STRAKE_ASSIGN_OR_RETURN(auto expression, RegularExpression::Compile(split.pattern));
    steps.push_back(
        std::make_unique<RegexStep>(std::move(expression), split.behavior, split.invert));
    return absl::OkStatus();
  }

  std::vector<std::string> patterns_;
};

}  // namespace

absl::StatusOr<PreTokenizerChain> PreTokenizerChain::Create(
    absl::Span<const PreTokenizer> pre_tokenizers) {
  StepMaker maker;
  for (size_t i = 0; i < pre_tokenizers.size(); ++i) {
    const bool is_last = i + 1 == pre_tokenizers.size();
    if (pre_tokenizers[i].kind == Kind::kByteLevel && !is_last) {
      return absl::InvalidArgumentError(
          "ByteLevel, which turns bytes into letters, must be the last of the pre-tokenizers");
    }
    STRAKE_RETURN_IF_ERROR(maker.Add(pre_tokenizers[i]));
  }
  STRAKE_RETURN_IF_ERROR(maker.EndPatterns());
  PreTokenizerChain chain;
  chain.splitter_ = std::move(maker.splitter);
  chain.steps_ = std::move(maker.steps);
  return chain;
}

bool PreTokenizerChain::cuts_at_blanks() const {
  if (splitter_ != nullptr) return KnowsCuts(*splitter_);
  for (const auto& step : steps_) {
    if (!step->keeps_blanks()) return step->cuts_at_blanks();
  }
  return false;
}

void PreTokenizerChain::Apply(absl::string_view text, bool begins_text, TextPieces* pieces) const {
  pieces->text = text;
  pieces->begins_text = begins_text;
  pieces->ranges.clear();
  if (splitter_ == nullptr) {
    pieces->ranges.push_back({0, text.size()});
  } else {
    std::vector<uint32_t> ends;
    if (!splitter_->Split(text, &ends).ok()) ends = {static_cast<uint32_t>(text.size())};
    size_t begin = 0;
    for (const uint32_t end : ends) {
      pieces->ranges.push_back({begin, end});
      begin = end;
    }
  }
  for (const auto& step : steps_) step->Apply(pieces);
}

}  // namespace strake
