#!/usr/bin/env python3
"""Writes the token files of this folder in llm.c's format, independently of Strake's own writer.

Run it in this folder.
"""
import struct


def write(path, magic, version, code, tokens):
    header = struct.pack("<256i", magic, version, len(tokens), *[0] * 253)
    with open(path, "wb") as file:
        file.write(header + struct.pack(f"<{len(tokens)}{code}", *tokens))


write("gpt2.bin", 20240520, 1, "H", [50256, 0, 1, 258, 40000])
write("llama3.bin", 20240801, 7, "I", [128000, 0, 65536, 16909060])
with open("text.txt", "wb") as file:
    file.write("Line one.\nÄ \x00 end".encode())
