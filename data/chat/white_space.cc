#include "data/chat/white_space.h"

#include "absl/strings/strip.h"

namespace strake {
namespace {

constexpr absl::string_view kSpaces[] = {" ",
                                         "\n",
                                         "\t",
                                         "\r",
                                         "\v",
                                         "\f",
                                         "\x1c",
                                         "\x1d",
                                         "\x1e",
                                         "\x1f",
                                         "\xc2\x85",
                                         "\xc2\xa0",
                                         "\xe1\x9a\x80",
                                         "\xe2\x80\x80",
                                         "\xe2\x80\x81",
                                         "\xe2\x80\x82",
                                         "\xe2\x80\x83",
                                         "\xe2\x80\x84",
                                         "\xe2\x80\x85",
                                         "\xe2\x80\x86",
                                         "\xe2\x80\x87",
                                         "\xe2\x80\x88",
                                         "\xe2\x80\x89",
                                         "\xe2\x80\x8a",
                                         "\xe2\x80\xa8",
                                         "\xe2\x80\xa9",
                                         "\xe2\x80\xaf",
                                         "\xe2\x81\x9f",
                                         "\xe3\x80\x80"};

template <bool (*Consume)(absl::string_view*, absl::string_view)>
bool ConsumeSpace(absl::string_view* text) {
  for (const absl::string_view space : kSpaces) {
    if (Consume(text, space)) return true;
  }
  return false;
}

}  // namespace

absl::string_view StripWhiteSpace(absl::string_view text) {
  while (ConsumeSpace<absl::ConsumePrefix>(&text)) continue;
  while (ConsumeSpace<absl::ConsumeSuffix>(&text)) continue;
  return text;
}

}  // namespace strake
