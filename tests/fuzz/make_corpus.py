#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: corpus/{npy,npz,safetensors,meta}/. Needs NumPy; the same every time."""

import io
import json
import pathlib
import struct
import sys
import zipfile

try:
    import numpy as np
except ImportError:
    sys.exit("make_corpus.py: expected a Python with NumPy, found none; try /usr/bin/python3")

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(reader, name, data):
    path = CORPUS / reader / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version)
    return file.getvalue()


def zipped(members, method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            # ZipInfo's own date, so that the file is the same every time.
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def safetensors(tensors, metadata=None):
    names = {"float16": "F16", "float32": "F32", "float64": "F64", "uint16": "BF16"}
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        begin = len(data)
        data += array.tobytes()
        header[name] = {"dtype": names[array.dtype.name], "shape": array.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def main():
    tensors = {name: np.arange(24, dtype="f2").reshape(2, 3, 4) for name in "qkv"}

    for dtype in "f2 f4 f8 i4 >f4 i8".split():
        write("npy", f"{dtype.replace('>', 'big_')}.npy", npy(np.arange(6, dtype=dtype).reshape(2, 3)))
    write("npy", "version2.npy", npy(np.zeros(3, "f4"), (2, 0)))
    write("npy", "version3.npy", npy(np.zeros(3, "f4"), (3, 0)))
    write("npy", "scalar.npy", npy(np.float64(0.125)))
    write("npy", "fortran.npy", npy(np.asfortranarray(np.zeros((2, 3), "f4"))))
    dict_text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }\n"
    write("npy", "huge.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(dict_text)) + dict_text)
    write("npy", "truncated.npy", npy(np.zeros(9, "f4"))[:-1])

    members = [(f"{name}.npy", npy(array)) for name, array in tensors.items()]
    rest = [("meta.json", '{"format": "muse-dump/1", "causal": true}'), ("tokens.json", '["a", "b", "c"]'),
            ("scale.npy", npy(np.float64(0.5)))]
    write("npz", "stored.npz", zipped(members, zipfile.ZIP_STORED))
    write("npz", "deflated.npz", zipped(members, zipfile.ZIP_DEFLATED))
    write("npz", "full.npz", zipped(rest + members, zipfile.ZIP_DEFLATED))
    write("npz", "twice.npz", zipped(members, zipfile.ZIP_STORED).replace(b"k.npy", b"q.npy"))
    write("npz", "bzip2.npz", zipped(members, zipfile.ZIP_BZIP2))
    write("npz", "empty.npz", zipped([], zipfile.ZIP_STORED))
    stored = zipped(members, zipfile.ZIP_STORED)
    write("npz", "crc.npz", stored.replace(tensors["v"].tobytes(), b"\1" + tensors["v"].tobytes()[1:]))
    write("npz", "truncated.npz", stored[:-30])

    write("safetensors", "plain.safetensors", safetensors(tensors))
    write("safetensors", "metadata.safetensors",
          safetensors(tensors, {"format": "pt", "scale": "0.5", "causal": "True", "source": "text"}))
    for dtype in "u2 f4 f8".split():
        one = {name: np.ones((1, 1, 2, 2), dtype) for name in "qkv"}
        write("safetensors", f"{dtype}.safetensors", safetensors(one))
    write("safetensors", "truncated.safetensors", safetensors(tensors)[:-1])
    write("safetensors", "length.safetensors", b"\xff" * 8 + b"{}")
    write("safetensors", "deep.safetensors", struct.pack("<Q", 40) + b"[" * 40)

    full = {"format": "muse-dump/1", "shape": ["heads", "tokens", "dim"], "heads": [{"layer": 1, "head": 6}, "b"],
            "tokens": 3, "dim": 4, "scale": 0.125, "causal": True, "source": "text", "other": [{"a": None}]}
    write("meta", "full.json", json.dumps(full).encode())
    write("meta", "least.json", b'{"format": "muse-dump/1"}')
    write("meta", "extents.json", b'{"format": "muse-dump/1", "shape": [2, 3, 4], "heads": [{"name": "x"}, "y"]}')
    write("meta", "version.json", b'{"format": "muse-dump/2"}')
    write("meta", "tokens.json", json.dumps(["a", "\u00e9", "\n"]).encode())
    write("meta", "nulls.json", b'{"format": "muse-dump/1", "scale": null, "causal": null, "heads": null}')
    write("meta", "overflow.json", b'{"format": "muse-dump/1", "scale": 1e999, "tokens": 18446744073709551615}')
    write("meta", "deep.json", b'{"a":' * 30)


if __name__ == "__main__":
    main()
