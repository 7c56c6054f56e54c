#!/usr/bin/env python3
"""Tests `muse-viewer DUMP --export FILE` as a command: files, numbers, messages, exit status. Needs no display.

test_viewer_export.py MUSE_VIEWER MUSE [unittest arguments]
"""
import csv
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is missing")
    sys.exit(77)

VIEWER = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "muse-viewer"
MUSE = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "muse"
WORK = tempfile.TemporaryDirectory(prefix="muse-viewer-export-")
ROOT = pathlib.Path(WORK.name)
SLICE = pathlib.Path(__file__).absolute().parent.parent / "notebooks_data" / "source16k_slice"
VIEWS = ["clusters", "attention", "error", "blocks", "profile", "histogram", "tradeoff", "inspector", "kmeans"]
SMALL = ["--block", 64, "--clusters", 6, "--retrieve", 1]
NO_DISPLAY = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}


def viewer(*args, status=0):
    """Runs the command without a display, checks its exit status, and gives what it printed."""
    done = subprocess.run([VIEWER, *map(str, args)], capture_output=True, text=True, timeout=120, env=NO_DISPLAY)
    line = " ".join(map(str, args))
    assert done.returncode == status, f"muse-viewer {line}: status {done.returncode}, not {status}\n{done.stderr}"
    if status != 0:
        assert done.stderr.strip(), f"muse-viewer {line}: status {status} without a message"
    return done


def random_dump(name, heads=2, n=320, d=16, nk=None):
    random = np.random.default_rng(7)
    folder = ROOT / name
    folder.mkdir()
    for key, tokens in (("q", n), ("k", nk or n), ("v", nk or n)):
        np.save(folder / f"{key}.npy", (1.5 * random.standard_normal((heads, tokens, d))).astype(np.float32))
    (folder / "meta.json").write_text(json.dumps({"format": "muse-dump/1"}))
    return folder


def png_size(path):
    """Width and height of a PNG file whose chunks are sound."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at, size = 8, None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body), kind
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        at += 12 + length
    return size


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


DUMP = random_dump("dump")


class Export(unittest.TestCase):
    def test_every_view_in_every_format(self):
        for view in VIEWS:
            for ending in ("png", "csv", "npy"):
                path = ROOT / f"{view}.{ending}"
                viewer(DUMP, "--export", path, "--view", view, "--size", "800x500", "--select", 200, *SMALL)
                if ending == "png":
                    self.assertEqual(png_size(path), (800, 500), view)
                elif ending == "npy":
                    array = np.load(path)
                    self.assertEqual(array.dtype, np.float64)
                    self.assertEqual(len(array), len(table(ROOT / f"{view}.csv")), view)

    def test_compare_and_the_other_options(self):
        for view in VIEWS:
            path = ROOT / f"compare_{view}.png"
            viewer(DUMP, "--export", path, "--view", view, "--compare", "muse,muse:retrieve=3", "--head", 1,
                   "--theme", "dark", "--ui-scale", 1.5, *SMALL)
            self.assertGreater(png_size(path)[0], 100)

    def test_the_same_line_gives_the_same_bytes(self):
        for view in ("clusters", "attention", "error", "blocks"):
            paths = [ROOT / f"same{i}.png" for i in (0, 1)]
            for path in paths:
                viewer(DUMP, "--export", path, "--view", view, "--size", "500x400", *SMALL)
            self.assertEqual(paths[0].read_bytes(), paths[1].read_bytes(), view)

    def test_errors_are_those_of_muse_compare(self):
        path = ROOT / "errors.csv"
        viewer(DUMP, "--export", path, "--view", "inspector", "--head", 1, *SMALL)
        rows = {row["quantity"]: float(row["value"]) for row in table(path)}
        done = subprocess.run([MUSE, "compare", DUMP, "--heads", "1", "--methods", "muse", "--json", "-",
                               *map(str, SMALL)], capture_output=True, text=True, check=True)
        expected = json.loads(done.stdout)["rows"][0]
        self.assertAlmostEqual(rows["The head: relative squared error"], expected["rel_sq_err"], delta=1e-6)
        self.assertAlmostEqual(rows["The head: bias of the log-sum-exp"], expected["lse_bias"], delta=1e-6)
        share = sum(float(row["share"]) for row in self.blocks())
        self.assertAlmostEqual(share, expected["rel_sq_err"], delta=1e-5)

    def blocks(self):
        path = ROOT / "blocks_of_head_1.csv"
        viewer(DUMP, "--export", path, "--view", "blocks", "--head", 1, *SMALL)
        return table(path)

    def test_attention_map_is_softmax(self):
        path = ROOT / "attention.npy"
        viewer(DUMP, "--export", path, "--view", "attention", *SMALL)
        q, k = (np.load(DUMP / f"{name}.npy")[0].astype(np.float64) for name in "qk")
        logits = q @ k.T / np.sqrt(16)
        weights = np.where(np.tri(320, dtype=bool), np.exp(logits), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        found = np.load(path)
        self.assertEqual(found.shape, (320, 320))
        seen = np.tri(320, dtype=bool)
        self.assertTrue(np.isnan(found[~seen]).all())
        np.testing.assert_allclose(found[seen], weights[seen], atol=1e-6)

    def test_a_filter_counts_only_its_queries(self):
        path = ROOT / "filtered.csv"
        viewer(DUMP, "--export", path, "--view", "error", *SMALL)
        errors = np.array([float(row["relative"]) for row in table(path)])
        low, high = np.quantile(errors, 0.7), errors.max()
        inside = (errors >= low) & (errors <= high)
        viewer(DUMP, "--export", path, "--view", "inspector", "--filter", f"{low}:{high}", *SMALL)
        rows = {row["quantity"]: float(row["value"]) for row in table(path)}
        self.assertEqual(rows["Queries in the selected range: queries"], inside.sum())
        self.assertGreater(rows["Queries in the selected range: relative squared error"],
                           rows["The head: relative squared error"])
        cells = ROOT / "filtered.npy"
        viewer(DUMP, "--export", cells, "--view", "attention", "--filter", f"{low}:{high}", *SMALL)
        self.assertEqual(list(~np.isnan(np.load(cells)).all(axis=1)), list(inside))
        # A range of blocks is none of queries.
        viewer(DUMP, "--export", path, "--view", "inspector", "--filter", f"block:{low}:{high}", *SMALL)
        self.assertNotIn("Queries in the selected range: queries", [row["quantity"] for row in table(path)])

    def test_config_file_of_tune(self):
        config = ROOT / "config.json"
        config.write_text(json.dumps({"format": "muse-config/1", "common": {"block": 64, "clusters": 5, "retrieve": 2}}))
        a, b = ROOT / "a.csv", ROOT / "b.csv"
        viewer(DUMP, "--export", a, "--config", config)
        viewer(DUMP, "--export", b, "--block", 64, "--clusters", 5, "--retrieve", 2)
        self.assertEqual(a.read_text(), b.read_text())

    def test_acausal_with_other_numbers_of_keys(self):
        dump = random_dump("uneven", n=200, nk=260)
        viewer(dump, "--export", ROOT / "uneven.png", status=3)
        for view in VIEWS:
            viewer(dump, "--export", ROOT / "uneven.png", "--view", view, "--mode", "acausal", "--clusters", 5)


class OnGpu(unittest.TestCase):
    """Where there is a GPU, exports from it agree with those of the CPU; elsewhere the message is that of muse. With
    MUSE_REQUIRE_GPU=1 a GPU has to be there."""

    def test_device(self):
        gpu = ROOT / "device_gpu.csv"
        args = [DUMP, "--view", "inspector", "--select", 300, *SMALL]
        done = subprocess.run([VIEWER, *map(str, args), "--export", gpu, "--device", "cuda"], capture_output=True, text=True,
                              timeout=120, env=NO_DISPLAY)
        if done.returncode == 0:
            self.agrees(DUMP, 1, [*SMALL, "--select", 300])
            self.agrees(SLICE, 2, ["--select", 3263])
            for view in VIEWS:
                viewer(DUMP, "--export", ROOT / "device.png", "--view", view, "--device", "cuda", "--select", 300, *SMALL)
            return
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotEqual(os.environ.get("MUSE_REQUIRE_GPU"), "1", done.stderr)
        by_muse = subprocess.run([MUSE, "run", DUMP, "--out", ROOT / "device_run", "--device", "cuda"],
                                 capture_output=True, text=True)
        self.assertEqual(by_muse.returncode, 1)
        self.assertEqual(done.stderr.replace("muse-viewer:", "muse:"), by_muse.stderr)
        self.assertFalse(gpu.exists())
        # Nothing falls back in silence; what needs no GPU needs none.
        viewer(*args, "--export", gpu, "--compare", "muse,muse:device=cuda", status=1)
        viewer(*args, "--export", gpu, "--method", "exact", "--device", "cuda")

    def agrees(self, dump, head, more):
        """Errors of a head, computed on the CPU and on the GPU, in each of its number types."""
        def rows(*args):
            path = ROOT / "device.csv"
            viewer(dump, "--view", "inspector", "--head", head, "--export", path, *more, *args)
            return {row["quantity"]: row for row in table(path)}
        error, where = "The head: relative squared error", "The head: computed on the GPU (1) or the CPU (0)"
        cpu = float(rows()[error]["value"])
        # Outputs differ by the rounding of q, k, v and of themselves, and so does the root of the error, by the triangle
        # inequality. Logits of some twenty, rounded to 8, 11 or 24 bits, are wrong by some 2^-5, 2^-8, 2^-21: so are
        # weights and outputs. Beyond that, a token between two clusters may go to the other one.
        for dtype, rounding in (("bfloat16", 2**-5), ("float16", 2**-8), ("float", 2**-21)):
            both = rows("--compare", f"muse,muse:device=cuda:dtype={dtype}")
            self.assertAlmostEqual(float(both[error]["A"]), cpu, delta=1e-9)
            self.assertEqual((float(both[where]["A"]), float(both[where]["B"])), (0, 1))
            b = float(both[error]["B"])
            print(f"{dump.name} head {head} {dtype}: error {b:.6g} on the GPU, {cpu:.6g} on the CPU", file=sys.stderr)
            self.assertAlmostEqual(b ** 0.5, cpu ** 0.5, delta=rounding + 0.01, msg=dtype)
            alone = rows("--device", "cuda", "--dtype", dtype)
            self.assertAlmostEqual(float(alone[error]["value"]), b, delta=1e-9)


class WrongUse(unittest.TestCase):
    def refused(self, status, *args, says=()):
        out = ROOT / "refused.png"
        done = viewer(*args, status=status)
        for word in says:
            self.assertIn(word, done.stderr)
        self.assertFalse(out.exists())

    def test_wrong_use_is_1(self):
        out = ROOT / "refused.png"
        for args, word in ((["--view", "pie"], "expected one of"), (["--metric", "good"], "--metric"),
                           (["--head", 2], "--head"), (["--select", 320], "--select"), (["--select", -1], "--select"),
                           (["--size", "10"], "--size"), (["--size", "0x5"], "--size"), (["--range", "2:1"], "--range"),
                           (["--zoom", "1:2"], "--zoom"), (["--compare", "muse"], "two methods"),
                           (["--compare", "muse,best"], "expected a method"), (["--level", 9, "--view", "clusters"], "--level"),
                           (["--pass", 9, "--view", "kmeans", *SMALL], "--pass"), (["--filter", "5"], "--filter"),
                           (["--filter", "token:0:1"], "--filter"),
                           (["--tokens", 1000], "--tokens"), (["--theme", "blue"], "--theme"),
                           (["--dtype", "float16"], "--device cuda"), (["--dtype", "double", "--device", "cuda"], "bfloat16"),
                           (["--device", "tpu"], "--device"), (["--compare", "muse,muse:device=tpu"], "cpu or cuda"),
                           (["--first-row", -1], "--first-row"), (["--nonsense"], "nonsense")):
            if word == "--level":
                args = [*args, *SMALL]
            self.refused(1, DUMP, "--export", out, *args, says=[word])
        self.refused(1, DUMP, "--export", ROOT / "picture.gif", says=[".png"])

    def test_file_problems_are_2(self):
        out = ROOT / "refused.png"
        self.refused(2, ROOT / "nowhere", "--export", out, says=["nowhere"])
        broken = random_dump("broken")
        (broken / "q.npy").write_bytes(b"not an array")
        self.refused(2, broken, "--export", out, says=["q.npy"])
        self.refused(2, DUMP, "--export", ROOT / "no folder" / "x.png", says=["no folder"])

    def test_misfits_are_3(self):
        out = ROOT / "refused.png"
        self.refused(3, DUMP, "--export", out, "--view", "clusters", "--block", 512, says=["--block"])
        self.refused(3, DUMP, "--export", out, "--view", "kmeans", "--cluster-by", "spatial", *SMALL, says=["--cluster-by"])

    def test_help_tells_types_units_and_defaults(self):
        text = " ".join(viewer("--help").stdout.split())
        for word in ["--view clusters|attention|error", "--metric auto|value|signed|absolute|squared|relative",
                     "--query-metric euclidean|key-covariance", "--block INT", "[tokens; default 1024]", "--compare A,B",
                     "--size WIDTHxHEIGHT", "Exit status: 0 done", "Example"]:
            self.assertIn(word, text)
        self.assertIn("muse 0.", viewer("--version").stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
