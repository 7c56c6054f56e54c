#!/usr/bin/env python3
"""Checks that the readers take what NumPy writes, and that NumPy takes what the writers write.

usage: check_npy_with_numpy.py path/to/rewrite_dump
Exit status: 0 all checks passed, 1 a check failed, 77 NumPy is missing (CTest reports the test as skipped).
"""

import itertools
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: this Python has no NumPy")
    sys.exit(77)

FAILURES = []


def check(condition, what):
    if not condition:
        FAILURES.append(what)
        print(f"FAILED: {what}")


def rewrite(kind, source, target):
    done = subprocess.run([TOOL, kind, str(source), str(target)], capture_output=True, text=True)
    return done.returncode, done.stderr


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def random_array(rng, dtype, shape):
    return (rng.standard_normal(shape) * 100).astype(dtype)


def check_arrays(folder, rng):
    shapes = [(), (0,), (1,), (7,), (3, 5), (2, 3, 4), (1, 2, 3, 4), (2, 1, 1, 1, 3)]
    for dtype, shape, version in itertools.product("f2 f4 f8 i4".split(), shapes, [(1, 0), (2, 0), (3, 0)]):
        array = random_array(rng, dtype, shape)
        with open(folder / "in.npy", "wb") as file:
            np.lib.format.write_array(file, array, version=version)
        status, message = rewrite("npy", folder / "in.npy", folder / "out.npy")
        check(status == 0, f"{dtype} {shape} version {version}: {message}")
        if status == 0:
            again = np.load(folder / "out.npy", allow_pickle=False)
            check(same(again, array), f"{dtype} {shape} version {version}: NumPy reads something else")

    special = np.array([np.nan, np.inf, -np.inf, -0.0, 6e-8], dtype="f2")
    np.save(folder / "in.npy", special)
    check(rewrite("npy", folder / "in.npy", folder / "out.npy")[0] == 0, "NaN and infinities in a plain array")
    check(same(np.load(folder / "out.npy"), special), "NaN and infinities keep their bits")

    refused = {
        "Fortran order": np.asfortranarray(random_array(rng, "f4", (2, 3))),
        "big-endian": random_array(rng, ">f4", (2, 3)),
        "int64": np.arange(3),
        "bool": np.array([True]),
        "complex": np.array([1j]),
        "text": np.array(["a"]),
        "objects": np.array([{}], dtype=object),
        "structured": np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
    }
    for what, array in refused.items():
        np.save(folder / "in.npy", array, allow_pickle=True)
        status, message = rewrite("npy", folder / "in.npy", folder / "out.npy")
        check(status == 2 and "in.npy" in message, f"{what}: exit status {status}, {message}")
    np.save(folder / "in.npy", np.asfortranarray(random_array(rng, "f4", (1, 3))))
    check(rewrite("npy", folder / "in.npy", folder / "out.npy")[0] == 0, "Fortran order of one long axis")


def write_safetensors(path, tensors, metadata):
    """Writes .safetensors from its specification: length, JSON header padded to 8 bytes, elements."""
    names = {"float16": "F16", "float32": "F32", "float64": "F64", "uint16": "BF16"}
    header, data = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        begin = len(data)
        data += array.tobytes()
        header[name] = {"dtype": names[array.dtype.name], "shape": array.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def check_dump(folder, source, expected, scale, what):
    out = folder / "dump"
    status, message = rewrite("dump", source, out)
    check(status == 0, f"{what}: {message}")
    if status != 0:
        return
    for name, array in expected.items():
        check(same(np.load(out / f"{name}.npy"), array), f"{what}: NumPy reads another {name}")
    meta = json.loads((out / "meta.json").read_text())
    check(meta["scale"] == scale, f"{what}: scale {meta['scale']}, expected {scale}")


def check_dumps(folder, rng):
    for dtype, batch in itertools.product("f2 f4 f8".split(), [(), (2,)]):
        tensors = {
            "q": random_array(rng, dtype, batch + (4, 6, 8)),
            "k": random_array(rng, dtype, batch + (2, 9, 8)),
            "v": random_array(rng, dtype, batch + (2, 9, 5)),
        }
        what = f"{dtype}, batch {batch}"
        np.savez(folder / "a.npz", **tensors)
        check_dump(folder, folder / "a.npz", tensors, 1 / 8**0.5, f"savez {what}")
        np.savez_compressed(folder / "a.npz", **tensors, scale=0.3)
        check_dump(folder, folder / "a.npz", tensors, 0.3, f"savez_compressed {what}")
        np.savez_compressed(folder / "a.npz", **{name: np.zeros_like(array) for name, array in tensors.items()})
        zeros = {name: np.zeros_like(array) for name, array in tensors.items()}
        check_dump(folder, folder / "a.npz", zeros, 1 / 8**0.5, f"compressed zeros {what}")
        metadata = {"format": "pt", "scale": "0.25", "causal": "True"}
        write_safetensors(folder / "a.safetensors", tensors, metadata)
        check_dump(folder, folder / "a.safetensors", tensors, 0.25, f"safetensors {what}")

    # Zeros deflate best: their ratio must not pass for a bomb.
    large = {name: np.zeros((1, 65536, 64), dtype="f4") for name in "qkv"}
    np.savez_compressed(folder / "a.npz", **large)
    check_dump(folder, folder / "a.npz", large, 0.125, "16 MB of compressed zeros")

    # bfloat16 is the upper half of float32; it is written as float32.
    exact = {name: (random_array(rng, "f4", (1, 3, 4)).view("u4") & 0xFFFF0000).view("f4") for name in "qkv"}
    upper = {name: (array.view("u4") >> 16).astype("u2") for name, array in exact.items()}
    write_safetensors(folder / "a.safetensors", upper, {})
    check_dump(folder, folder / "a.safetensors", exact, 0.5, "bfloat16")

    np.savez(folder / "a.npz", q=large["q"], k=large["k"])
    status, message = rewrite("dump", folder / "a.npz", folder / "dump")
    check(status == 2 and "k.npy, q.npy" in message, f"npz without v: exit status {status}, {message}")


def main():
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        check_arrays(pathlib.Path(folder), rng)
        check_dumps(pathlib.Path(folder), rng)
    print(f"{len(FAILURES)} checks failed with NumPy {np.__version__}")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    TOOL = sys.argv[1]
    sys.exit(main())
