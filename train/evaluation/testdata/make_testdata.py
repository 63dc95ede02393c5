#!/usr/bin/env python3
"""Writes the files of this folder: questions in both formats, of which fuzz tests make mutations."""

import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent


def hellaswag(examples):
    stream = []
    for number, (answer, context, choices) in enumerate(examples):
        example = [65535, 0, number, answer, len(choices)]
        for tokens in [context, *choices]:
            example += [len(tokens), *tokens]
        example[1] = 2 * len(example)
        stream += example
    header = [20240522, 1, len(examples), 100] + [0] * 252
    return struct.pack("<256i", *header) + struct.pack(f"<{len(stream)}H", *stream)


(HERE / "hellaswag.bin").write_bytes(hellaswag([
    (1, [3, 14, 15], [[9], [2, 6], [5, 3, 5], [8]]),
    (0, [92], [[65, 35], [89]])]))
(HERE / "questions.jsonl").write_text(
    '{"context": "The sky is ", "choices": ["blue.", "loud."], "answer": 0}\n\n'
    '{"context": "", "choices": ["Gr\\u00f6\\u00dfe \U0001f600", "b", "b"], "answer": "b"}\n')
