// EncoderOf: the encoder of a tokenizer.
#ifndef STRAKE_TRAIN_EVALUATION_TOKENIZER_ENCODER_H_
#define STRAKE_TRAIN_EVALUATION_TOKENIZER_ENCODER_H_

#include "data/tokenizer/tokenizer.h"
#include "train/evaluation/text_encoder.h"

namespace strake {

// `tokenizer` must outlive the encoder, whose copies are to be used on one thread at a time.
// `with_special`: the post-processor's ids stand around texts, as Hugging Face's default is.
TextEncoder EncoderOf(const Tokenizer& tokenizer, bool with_special = true);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_TOKENIZER_ENCODER_H_
