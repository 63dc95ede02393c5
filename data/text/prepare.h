// PrepareTokens: text files to token files with their documents' boundaries.
//
// Every document is the tokenizer's prefix, its tokens, and the end-of-text token; or a
// conversation, as ChatEncoder writes it. The result is a folder:
//
//   tokens-00000.bin         llm.c's format; uint16 tokens where the vocabulary allows it
//   tokens-00000.documents   where its documents begin (data/document_index.h)
//   tokens-00000.targets     of conversations: which tokens are answers (data/target_ranges.h)
//   prepared.json            what it was made of
//
// The same bytes are written for any number of threads. All is written into DIRECTORY.unfinished,
// which is renamed when it is whole: DIRECTORY holds all or does not exist. The next call after one
// that was stopped or killed keeps the token files that were finished. Calls for the same directory
// at the same time wait for each other.
#ifndef STRAKE_DATA_TEXT_PREPARE_H_
#define STRAKE_DATA_TEXT_PREPARE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/chat/chat_encoder.h"
#include "data/text/document_reader.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// What a program calls the options, for its errors.
struct PrepareNames {
  std::string files = "files", directory = "directory";
};

struct PrepareOptions {
  std::vector<std::string> files = {};  // in this order; "-": standard input
  DocumentOptions documents = {};
  // Of the same tokenizer: all files are of conversations, a line each. Null: none is.
  const ChatEncoder* chat = nullptr;
  // Not there yet, empty, or the result of an equal call, whose files may have had other names.
  std::string directory = {};
  // Of documents that are no conversations.
  int32_t end_of_text = -1;  // -1: none
  bool prefix = true;        // the tokenizer's spec().prefix before each document
  // A token file ends with the document that fills it. A document that would give it more than
  // twice as many tokens goes on in the next file, as one of its own. It is cut into pieces of
  // about 256 KiB for that, and a piece that has more tokens alone is a file by itself. Whole files
  // are what is kept of a call that was stopped. At most 10^9.
  int64_t max_file_tokens = 100'000'000;
  // Whether a result in `directory` that is damaged is removed, and made anew. For a cache.
  bool replace_damaged = false;
  int threads = 1;  // that encode; reading and writing have one each besides
  struct Progress {
    int64_t bytes_read = 0;     // of the files as they are on the disk
    int64_t bytes_resumed = 0;  // of these, whose tokens an earlier call had finished
    int64_t bytes_in_all = 0;   // 0: not known, for standard input and pipes
    int64_t tokens = 0, documents = 0;
  };
  std::function<void(const Progress&)> on_progress = {};  // on the calling thread
  std::function<bool()> stop_requested = {};
  PrepareNames names = {};
};

struct PreparedTokens {
  std::vector<std::string> token_files = {};
  int64_t num_tokens = 0, num_documents = 0, num_text_bytes = 0;
  int64_t num_answer_tokens = 0;  // of conversations
  int64_t num_bad_lines = 0, num_empty_documents = 0;
  std::string first_bad_line = {};  // names file, line and column
  bool reused = false;              // the directory held the result of an equal call already
  std::string replaced = {};        // what was wrong with a result that was removed before
  int64_t num_resumed_tokens = 0;   // that an earlier call had finished
};

// Returns an error for files that cannot be read or hold no document, naming file, line and column
// where possible (DocumentReader, ConversationReader), and the option that the file is of;
// FailedPrecondition for a directory that holds something else, or a result that is damaged, and
// Cancelled where `stop_requested` said so. Of an equal call's result, tokens and boundaries are
// read: all that a run would find wrong is damage.
absl::StatusOr<PreparedTokens> PrepareTokens(const Tokenizer& tokenizer,
                                             const PrepareOptions& options);

// A directory below `cache` that holds the result of an equal call, or else the name of a new one.
// Calls are equal where tokenizer, settings and the files' paths and content are, whatever their
// times: a file of the same size whose times or inode are others is read to see. Text under another
// path is prepared again, for the index names documents by the paths as they were given.
// InvalidArgument for standard input and pipes, which cannot be read again, and Cancelled where
// `stop_requested` said so.
absl::StatusOr<std::string> PreparedDirectory(const std::string& cache, const Tokenizer& tokenizer,
                                              const PrepareOptions& options);

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_PREPARE_H_
