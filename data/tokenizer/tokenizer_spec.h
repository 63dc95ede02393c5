// TokenizerSpec: what a tokenizer's files say, in one form for all formats. Readers make it, and
// Tokenizer::Create() takes it.
//
//   text -> added tokens cut out -> normalizers -> pre-tokenizers -> words -> byte-pair merges ->
//   ids
//
// Byte-pair encoding: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with
// Subword Units", 2016, section 3.2.
#ifndef STRAKE_DATA_TOKENIZER_TOKENIZER_SPEC_H_
#define STRAKE_DATA_TOKENIZER_TOKENIZER_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace strake {

// Ids are below it.
inline constexpr int64_t kMaxVocabSize = int64_t{1} << 22;

// A token that is looked for in the text before anything else happens to it.
struct AddedToken {
  int32_t id = 0;
  std::string text = {};
  bool special = false;      // not text: decoding may leave it out
  bool lstrip = false;       // takes the blanks before it along
  bool rstrip = false;       // and those after it
  bool single_word = false;  // only where neither neighbour is a letter, digit or "_"
  bool normalized = false;   // looked for in normalized text, else in the text as it came
  bool verbatim = false;     // with `normalized`: its own text is not normalized first
};

// A step from text to text, applied to what lies between added tokens.
struct Normalizer {
  enum class Kind : uint8_t {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kPrepend,         // `content` before the text, unless that is empty
    kReplace,         // each `pattern`, literally, by `content`
    kReplaceRegex,    // each match of the regular expression `pattern` by `content`
    kStrip,           // Unicode's white space, at the `left` and the `right`
    kCharsMap,        // `content`: SentencePiece's precompiled map, decoded from base64
    kCollapseBlanks,  // SentencePiece's remove_extra_whitespaces: runs of blanks to one, none at
                      // the ends; nor `content`, which stands for one, at the right end
  };
  Kind kind = Kind::kNfc;
  std::string pattern = {};
  std::string content = {};
  bool left = true, right = true;  // kStrip
};

// A step that cuts pieces of text into smaller ones. No merge crosses a cut.
struct PreTokenizer {
  enum class Kind : uint8_t {
    kSplit,        // at matches of the regular expression, or literal text, `pattern`
    kByteLevel,    // bytes become letters: GPT-2's map, which tokens of the spec have undone
    kDigits,       // each run of digits, or each digit where `individual`, by itself
    kPunctuation,  // each punctuation mark, as `behavior` says
    kWhitespace,   // Hugging Face's: \w+|[^\w\s]+, blanks dropped
    kMetaspace,    // blanks become `pattern` ("▁"), and where `split` each begins a piece
  };
  enum class Behavior : uint8_t {
    kIsolated,
    kRemoved,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous
  };
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };  // of kMetaspace
  Kind kind = Kind::kSplit;
  std::string pattern = {};
  bool literal = false;  // kSplit: `pattern` is no regular expression
  bool invert = false;   // kSplit: what lies between matches is the match
  Behavior behavior = Behavior::kIsolated;
  bool individual = false;        // kDigits
  bool add_prefix_space = false;  // kByteLevel: a blank before the piece unless it begins with one
  bool use_regex = false;         // kByteLevel: cut by GPT-2's expression as well
  Prepend prepend = Prepend::kNever;  // kMetaspace
  bool split = true;                  // kMetaspace
};

// A step of decoding, applied to the tokens' text.
struct DecodingStep {
  enum class Kind : uint8_t {
    kByteLevel,     // nothing to do: tokens of the spec are bytes
    kByteFallback,  // tokens of TokenizerSpec::byte_tokens become their bytes
    kFuse,          // tokens become one text
    kReplace,       // each `pattern`, literally, by `content`
    kStrip,         // up to `start` times `content` at the beginning, `stop` times at the end
    kMetaspace,     // `pattern` becomes a blank, or nothing in the first token if `drop_first`
  };
  Kind kind = Kind::kByteLevel;
  std::string pattern = {}, content = {};
  int64_t start = 0, stop = 0;
  bool drop_first = false;
};

// Two adjacent tokens that become one. Of all that apply to a word, the one of the lowest rank is
// done first, the leftmost of equal ones. Where a pair stands twice, the last one counts.
struct Merge {
  int32_t left = 0, right = 0, result = 0;
  int64_t rank = 0;
};

struct TokenizerSpec {
  // Token by id, as bytes: byte-level vocabularies' letters are mapped back. Empty for an unused
  // id. Added tokens stand here too. Two may have the same bytes: words become tokens that are not
  // added ones, or that are some merge's result, and of these the one of the lowest id.
  std::vector<std::string> tokens = {};
  std::vector<Merge> merges = {};
  // A word begins as its bytes where this is true, as its characters otherwise.
  bool byte_level = true;
  // A word that is itself a token becomes it, whatever the merges (Hugging Face's ignore_merges;
  // tiktoken's rule).
  bool whole_words = false;
  // Without byte_level: the 256 tokens that stand for a byte of a character that is no token
  // (byte fallback), or none.
  std::vector<int32_t> byte_tokens = {};
  // The token of a byte or character that none of the above has a token for; neighbours become one
  // where fuse_unknown. Without it such characters are dropped.
  std::optional<int32_t> unknown = {};
  bool fuse_unknown = false;
  // What `unknown` decodes to; where empty, its text.
  std::string unknown_text = {};

  std::vector<AddedToken> added = {};
  std::vector<Normalizer> normalizers = {};
  std::vector<PreTokenizer> pre_tokenizers = {};
  std::vector<DecodingStep> decoders = {};
  // What the post-processor puts before and after a single text, where a caller asks for it.
  std::vector<int32_t> prefix = {}, suffix = {};
  // The tokens that begin and end a document, as far as the files say so (eos_token, eos_token_id).
  std::optional<int32_t> begin_of_text = {}, end_of_text = {};
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TOKENIZER_SPEC_H_
