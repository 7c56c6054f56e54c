#!/usr/bin/env python3
"""Copies the first tokens, and some heads, of a dump folder (docs/formats.md) to a new one.

Example: slice_dump.py dumps/source16k notebooks_data/source16k_slice --tokens 6144
"""

import argparse
import json
import pathlib
import sys

try:
    import numpy as np
except ImportError:
    sys.exit("slice_dump.py: expected a Python with NumPy, found none; on Debian install python3-numpy and run "
             "/usr/bin/python3")

FORMAT = "muse-dump/1"


def fail(message):
    sys.exit(f"slice_dump.py: {message}")


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path}: cannot be read ({error.strerror}); expected a dump folder with meta.json")
    except ValueError as error:
        fail(f"{path}: expected JSON, found {error}")


def read_array(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        fail(f"{path}: expected an array written by numpy.save ({error})")
    if array.ndim not in (3, 4):
        fail(f"{path}: expected [heads, tokens, dim] or [batch, heads, tokens, dim], found {list(array.shape)}")
    return array


def parse_heads(text, count):
    try:
        heads = [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"--heads: expected numbers with commas, such as 0,2; found '{text}'")
    for head in heads:
        if not 0 <= head < count:
            fail(f"--heads: expected numbers from 0 to {count - 1}, found {head}")
    return heads


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="dump folder to read")
    parser.add_argument("target", type=pathlib.Path, help="folder to write; may be there, but not be the source")
    parser.add_argument("--tokens", type=int, help="how many tokens to keep, from the first (default: all)")
    parser.add_argument("--heads", help="query heads to keep, counted from 0, such as 0,2 (default: all)")
    arguments = parser.parse_args()

    source, target = arguments.source, arguments.target
    meta = read_json(source / "meta.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        fail(f"{source / 'meta.json'}: expected \"format\": \"{FORMAT}\"")
    if target.resolve() == source.resolve():
        fail(f"{target}: expected a folder other than the source")
    arrays = {name: read_array(source / f"{name}.npy") for name in "qkv"}
    heads_q, heads_kv = arrays["q"].shape[-3], arrays["k"].shape[-3]
    if heads_kv == 0 or heads_q % heads_kv:
        fail(f"{source}: expected a multiple of the {heads_kv} key heads as query heads, found {heads_q}")
    available = min(array.shape[-2] for array in arrays.values())
    tokens = available if arguments.tokens is None else arguments.tokens
    if not 1 <= tokens <= available:
        fail(f"--tokens: expected 1 to {available}, found {tokens}")
    heads = list(range(heads_q)) if arguments.heads is None else parse_heads(arguments.heads, heads_q)

    # A query head reads key head h // (Hq / Hkv); with fewer key heads, each kept query head gets its own copy.
    share = heads_q // heads_kv
    keep_all = heads == list(range(heads_q))
    heads_of = {"q": heads}
    heads_of["k"] = heads_of["v"] = list(range(heads_kv)) if keep_all else [head // share for head in heads]
    slices = {name: np.ascontiguousarray(array[..., heads_of[name], :tokens, :]) for name, array in arrays.items()}

    if isinstance(meta.get("heads"), list) and len(meta["heads"]) == heads_q:
        meta["heads"] = [meta["heads"][head] for head in heads]
    if isinstance(meta.get("shape"), list) and all(isinstance(extent, int) for extent in meta["shape"]):
        meta["shape"] = list(slices["q"].shape)
    meta["tokens"] = tokens
    if tokens < available:
        meta["slice"] = f"the first {tokens} of {available} tokens"

    try:
        target.mkdir(parents=True, exist_ok=True)
        # meta.json comes last: a folder that was left half-written is not a dump.
        (target / "meta.json").unlink(missing_ok=True)
        (target / "tokens.json").unlink(missing_ok=True)
        for name, array in slices.items():
            np.save(target / f"{name}.npy", array)
        if (source / "tokens.json").exists():
            texts = read_json(source / "tokens.json")[:tokens]
            (target / "tokens.json").write_text(json.dumps(texts) + "\n", encoding="utf-8")
        (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{target}: cannot be written ({error.strerror})")
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {len(heads)} heads, {tokens} tokens, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
