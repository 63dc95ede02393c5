#!/usr/bin/env python3
"""Writes unicode_table.cc: the class of every code point, of the package unicodedata2.

    pip install unicodedata2==16.0.0
    python3 data/tokenizer/words/make_unicode_table.py | clang-format-14 > data/tokenizer/words/unicode_table.cc

The version of Unicode is the one of the tokenizers that test our tokens, tiktoken 0.14 and Hugging
Face's 0.23, so that new characters are split as there, on every machine.
"""

import unicodedata2

# In the order of the bits of CharClass: categories, or the first letter of several.
CLASSES = [("Lu", "Lt"), ("Ll",), ("Lm", "Lo"), ("M",), ("N",), ("Z",), ("P", "S"), ("C",)]
WHITE_SPACE = CLASSES.index(("Z",))
CONTROL_WHITE_SPACE = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}


def class_of(code_point):
    if code_point in CONTROL_WHITE_SPACE:
        return WHITE_SPACE
    category = unicodedata2.category(chr(code_point))
    (found,) = [i for i, names in enumerate(CLASSES) if category.startswith(names)]
    return found


def class_runs():
    runs = []
    for code_point in range(0x110000):
        char_class = class_of(code_point)
        if runs and runs[-1][1] == char_class:
            runs[-1][0] += 1
        else:
            runs.append([1, char_class])
    return runs


def main():
    numbers = ", ".join(str(size << 3 | char_class) for size, char_class in class_runs())
    print(f"""// Written by make_unicode_table.py.
#include "data/tokenizer/words/unicode_table.h"

namespace strake {{

const char kUnicodeVersion[] = "{unicodedata2.unidata_version}";

const uint32_t kClassRuns[] = {{{numbers}}};

const size_t kNumClassRuns = sizeof(kClassRuns) / sizeof(kClassRuns[0]);

}}  // namespace strake""")


if __name__ == "__main__":
    main()
