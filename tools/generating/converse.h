// Converse: a conversation with a model, a line of the user at a time.
#ifndef STRAKE_TOOLS_GENERATING_CONVERSE_H_
#define STRAKE_TOOLS_GENERATING_CONVERSE_H_

#include <cstdint>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "data/chat/chat_encoder.h"
#include "data/tokenizer/tokenizer.h"
#include "models/generator.h"

namespace strake {

struct ConverseOptions {
  // Of the user and the model. All must outlive the call.
  const ChatEncoder* encoder = nullptr;
  const Tokenizer* tokenizer = nullptr;
  std::string system = {};  // what the system says first; empty: nothing, or the format's own
  int64_t max_tokens = 0;   // of an answer
  int64_t max_context_tokens = 0;  // of the conversation
  uint64_t seed = 0;               // of the first answer; the next has one more
  bool terminal = false;  // prints "> " before a line, and shows control characters as "\xNN"
};

// Generates what follows the prompt, at most so many tokens: calls the last with each.
using GenerateAnswer = absl::FunctionRef<absl::Status(
    const std::vector<int32_t>& prompt, int64_t max_tokens, uint64_t seed,
    absl::FunctionRef<absl::Status(const GeneratedToken&)> on_token)>;

// Reads a message of the user from each line of `in` that is not blank, and prints the answer as it
// comes, until `in` ends. Each answer is to the whole conversation so far. InvalidArgument for a
// conversation that has grown too long, and for roles that the format does not write; Unavailable
// where `out` takes no more.
absl::Status Converse(const ConverseOptions& options, GenerateAnswer generate, std::istream* in,
                      std::ostream* out);

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_CONVERSE_H_
