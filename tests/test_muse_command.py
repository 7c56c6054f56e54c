#!/usr/bin/env python3
"""Tests the command `muse` as a command: what it prints, writes and returns, against numpy in float64.

test_muse_command.py MUSE [unittest arguments]
"""
import csv
import io
import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is missing")
    sys.exit(77)

MUSE = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "muse"
WORK = tempfile.TemporaryDirectory(prefix="muse-command-")
ROOT = pathlib.Path(WORK.name)
ORDERS = ["centroid", "monopole", "dipole", "dipole_value", "dipole_spread"]


def muse(*args, status=0, env=None):
    """Runs the command, checks its exit status, and gives what it printed."""
    done = subprocess.run([MUSE, *map(str, args)], capture_output=True, text=True, timeout=120,
                          env=None if env is None else {**os.environ, **env})
    line = " ".join(map(str, args))
    assert done.returncode == status, f"muse {line}: status {done.returncode}, not {status}\n{done.stdout}{done.stderr}"
    if status != 0:
        assert done.stderr.strip(), f"muse {line}: status {status} without a message"
    return done


def muse_json(*args):
    """What the command prints for --json -, which must be JSON alone."""
    return json.loads(muse(*args, "--json", "-").stdout)


def write_dump(name, q, k, v, **meta):
    folder = ROOT / name
    folder.mkdir()
    for key, array in (("q", q), ("k", k), ("v", v)):
        np.save(folder / f"{key}.npy", array)
    (folder / "meta.json").write_text(json.dumps({"format": "muse-dump/1", **meta}))
    return folder


def random_dump(name, heads=2, heads_kv=None, nq=300, nk=None, d=16, dv=None, batch=None, dtype=np.float32, seed=0, **meta):
    random = np.random.default_rng(seed)
    front = () if batch is None else (batch,)
    heads_kv, nk, dv = heads_kv or heads, nk or nq, dv or d

    def draw(*shape):
        return (1.5 * random.standard_normal(front + shape)).astype(dtype)

    return write_dump(name, draw(heads, nq, d), draw(heads_kv, nk, d), draw(heads_kv, nk, dv), **meta)


def load(folder):
    return [np.load(folder / f"{name}.npy").astype(np.float64) for name in "qkv"]


def attention(q, k, v, scale, causal, block=0):
    """Softmax attention of one head in float64, straight from its definition."""
    logits = scale * q @ k.T
    t, n = np.arange(len(q))[:, None], np.arange(len(k))[None, :]
    seen = np.ones(logits.shape, bool)
    if causal:
        seen &= n <= t
    if block:
        seen &= n // block == t // block
    logits = np.where(seen, logits, -np.inf)
    largest = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - largest)
    total = weights.sum(axis=1, keepdims=True)
    return weights / total @ v, (largest + np.log(total))[:, 0]


def attention_of_dump(folder, scale, causal, block=0, tokens=None):
    q, k, v = (x[:, :tokens] for x in load(folder))
    group = len(q) // len(k)
    pairs = [attention(q[h], k[h // group], v[h // group], scale, causal, block) for h in range(len(q))]
    return np.stack([o for o, _ in pairs]), np.stack([lse for _, lse in pairs])


def run(folder, *args, out=None):
    out = out or pathlib.Path(tempfile.mkdtemp(dir=ROOT))
    muse("run", folder, "--out", out, *args)
    result = {path.stem: np.load(path) for path in out.glob("*.npy")}
    result["json"] = json.loads((out / "run.json").read_text())
    result["folder"] = out
    return result


class Help(unittest.TestCase):
    def test_every_command_describes_itself_and_gives_an_example(self):
        commands = ["info", "synth", "run", "compare", "explain", "blocks"]
        top = muse("--help").stdout
        for command in commands:
            self.assertIn(command, top)
            text = muse(command, "--help").stdout
            self.assertIn(f"muse {command} ", text)
            self.assertIn("Example:", text)
            for line in text.splitlines():
                if not line.startswith("  muse "):
                    self.assertLessEqual(len(line), 100, line)

    def test_options_tell_type_unit_and_default(self):
        for command in ["run", "compare", "explain"]:
            text = " ".join(muse(command, "--help").stdout.split())
            self.assertIn("--block INT", text)
            self.assertIn("[tokens; default 1024]", text)
            self.assertIn("--mode acausal|causal|causal-shared", text)
            self.assertIn("--clusters-q RULE", text)
            for option in ["--order", "--cluster-by", "--metric", "--clusters ", "--clusters-k", "--retrieve", "--passes", "--sample",
                           "--cluster-window", "--seed", "--tokens", "--threads", "--dtype", "--config"]:
                self.assertIn(option, text, command)

    def test_version(self):
        text = muse("--version").stdout
        for word in ["muse 0.", "compiler", "Eigen", "OpenMP", "CUDA"]:
            self.assertIn(word, text)


class ExactAttention(unittest.TestCase):
    """`muse run --method exact` and `local` against numpy."""

    def check(self, folder, scale, causal, *args, block=0, tokens=None, tolerance=2e-6):
        method = "local" if block else "exact"
        if block:
            args = (*args, "--block", block)
        result = run(folder, "--method", method, *args)
        o, lse = attention_of_dump(folder, scale, causal, block, tokens)
        self.assertEqual(result["o"].shape, o.shape)
        self.assertEqual(result["lse"].shape, lse.shape)
        self.assertLessEqual(np.abs(result["o"] - o).max(), tolerance * np.abs(o).max())
        self.assertLessEqual(np.abs(result["lse"] - lse).max(), tolerance * (1 + np.abs(lse).max()))
        self.assertNotIn("labels_q", result)
        return result

    def test_causal_by_default(self):
        result = self.check(random_dump("causal", nq=333), 1 / 4, True)
        self.assertEqual(result["o"].dtype, np.float32)

    def test_mode_from_the_dump(self):
        self.check(random_dump("says-acausal", nq=100, causal=False), 1 / 4, False)
        self.check(random_dump("says-causal", nq=100, causal=True), 1 / 4, True)

    def test_the_option_wins_over_the_dump(self):
        self.check(random_dump("says-causal-2", nq=100, causal=True), 1 / 4, False, "--mode", "acausal")

    def test_acausal_with_other_numbers_of_queries_and_keys(self):
        self.check(random_dump("rectangle", nq=97, nk=211), 1 / 4, False, "--mode", "acausal")

    def test_grouped_queries_other_value_dim_and_scale(self):
        folder = random_dump("gqa", heads=6, heads_kv=2, nq=150, d=24, dv=40, scale=0.3)
        self.check(folder, 0.3, True)

    def test_local_blocks(self):
        folder = random_dump("local", nq=150)
        self.check(folder, 1 / 4, True, block=64)
        self.check(folder, 1 / 4, False, "--mode", "acausal", block=64)

    def test_first_tokens(self):
        self.check(random_dump("first", nq=150), 1 / 4, True, "--tokens", 70, tokens=70)

    def test_double(self):
        folder = random_dump("double", nq=120, dtype=np.float64)
        result = self.check(folder, 1 / 4, True, "--dtype", "double", tolerance=1e-13)
        self.assertEqual(result["o"].dtype, np.float64)

    def test_half_precision_files(self):
        self.check(random_dump("half", nq=120, dtype=np.float16), 1 / 4, True)

    def test_selected_heads_and_batch(self):
        folder = random_dump("batch", heads=3, nq=80, batch=2)
        whole = run(folder, "--method", "exact")
        self.assertEqual(whole["o"].shape, (2, 3, 80, 16))
        some = run(folder, "--method", "exact", "--heads", "2,0")
        self.assertEqual(some["json"]["config"]["heads"], [0, 2])
        np.testing.assert_array_equal(some["o"], whole["o"][:, [0, 2]])
        q, k, v = load(folder)
        o, _ = attention(q[1, 2], k[1, 2], v[1, 2], 1 / 4, True)
        self.assertLessEqual(np.abs(whole["o"][1, 2] - o).max(), 2e-6 * np.abs(o).max())


class Run(unittest.TestCase):
    def test_labels(self):
        folder = random_dump("labels", heads=4, heads_kv=2, nq=300)
        result = run(folder, "--block", 64, "--clusters", 8)
        for name in ["labels_q", "labels_k"]:
            self.assertEqual(result[name].dtype, np.int32)
            self.assertEqual(result[name].shape, (4, 3, 300))  # 64, 128, 256 < 300
            self.assertEqual(result[name].min(), -1)
            self.assertEqual(result[name].max(), 7)
        # Level 2 has one block: keys 0..255, queries 256..299.
        self.assertTrue((result["labels_k"][:, 2, :256] >= 0).all())
        self.assertTrue((result["labels_k"][:, 2, 256:] == -1).all())
        # Heads of a group share their keys' labels; other groups have their own.
        np.testing.assert_array_equal(result["labels_k"][0], result["labels_k"][1])
        self.assertTrue((result["labels_k"][1] != result["labels_k"][2]).any())

    def test_a_group_clusters_its_keys_once(self):
        folder = random_dump("once", heads=4, heads_kv=1, nq=300)
        heads = run(folder, "--block", 64, "--clusters", 8)["json"]["heads"]
        clustering = [head["stages"]["clustering"]["operations"] for head in heads]
        self.assertLess(clustering[1], clustering[0])
        self.assertEqual(clustering[1:], [clustering[1]] * 3)

    def test_sharing_labels_changes_no_bit(self):
        folder = random_dump("share", heads=2, heads_kv=1, nq=300)
        both = run(folder, "--block", 64, "--clusters", 8)
        alone = run(folder, "--block", 64, "--clusters", 8, "--heads", 1)
        np.testing.assert_array_equal(both["o"][1:], alone["o"])
        np.testing.assert_array_equal(both["labels_k"][1:], alone["labels_k"])

    def test_as_many_clusters_as_tokens_is_exact(self):
        folder = random_dump("dense", nq=200)
        result = run(folder, "--block", 32, "--clusters", "S/1", "--passes", 0, "--dtype", "double")
        o, lse = attention_of_dump(folder, 1 / 4, True)
        self.assertLessEqual(np.abs(result["o"] - o).max(), 1e-12)
        self.assertLessEqual(np.abs(result["lse"] - lse).max(), 1e-12)

    def test_everything_retrieved_is_exact(self):
        folder = random_dump("retrieved", nq=200)
        result = run(folder, "--block", 32, "--clusters", 4, "--retrieve", 4, "--dtype", "double")
        o, _ = attention_of_dump(folder, 1 / 4, True)
        self.assertLessEqual(np.abs(result["o"] - o).max(), 1e-12)

    def test_threads_change_no_bit(self):
        folder = random_dump("threads", heads=3, nq=700)
        outs = []
        for threads in [1, 2, 3]:
            outs.append(run(folder, "--block", 64, "--retrieve", 2, "--clusters", 16, "--threads", threads)["folder"])
        for name in ["o.npy", "lse.npy", "labels_q.npy", "labels_k.npy"]:
            first = (outs[0] / name).read_bytes()
            for out in outs[1:]:
                self.assertEqual((out / name).read_bytes(), first, name)

    def test_run_json(self):
        folder = random_dump("runjson", nq=200)
        result = run(folder, "--block", 64, "--clusters", "8", "--retrieve", "1")["json"]
        self.assertEqual(result["format"], "muse-run/1")
        self.assertEqual(result["config"]["block"], 64)
        self.assertEqual(result["config"]["dump"]["q"]["shape"], [2, 200, 16])
        self.assertRegex(result["config"]["dump"]["fnv1a64"], "^[0-9a-f]{16}$")
        self.assertIn("muse", result["versions"])
        for head in result["heads"]:
            stages = head["stages"]
            summed = sum(stages[stage]["operations"] for stage in ["clustering", "local", "far"])
            self.assertAlmostEqual(summed, head["operations"], delta=1e-9 * summed)
            parts = sum(stages["far"][part]["operations"] for part in ["summaries", "far_field", "retrieval"])
            self.assertAlmostEqual(parts, stages["far"]["operations"], delta=1e-9 * parts)
            self.assertGreaterEqual(head["seconds"], 0)
        again = random_dump("runjson-other", nq=200, seed=1)
        other = run(again, "--method", "exact")["json"]
        self.assertNotEqual(other["config"]["dump"]["fnv1a64"], result["config"]["dump"]["fnv1a64"])

    def test_no_labels_of_another_run_stay(self):
        folder = random_dump("stale", nq=200)
        out = ROOT / "stale-out"
        run(folder, "--block", 64, out=out)
        self.assertTrue((out / "labels_q.npy").exists())
        run(folder, "--block", 64, "--method", "exact", out=out)
        self.assertFalse((out / "labels_q.npy").exists())
        self.assertEqual([path for path in out.iterdir() if "partial" in path.name], [])

    def test_one_block_has_no_levels(self):
        result = run(random_dump("one-block", nq=50))
        self.assertEqual(result["labels_q"].shape, (2, 0, 50))


class Configs(unittest.TestCase):
    def write(self, name, **document):
        path = ROOT / name
        path.write_text(json.dumps({"format": "muse-config/1", **document}))
        return path

    def test_defaults_then_file_then_flags(self):
        folder = random_dump("precedence", nq=200)
        file = self.write("precedence.json", common={"block": 32, "passes": 2})
        config = muse_json("compare", folder, "--config", file, "--passes", 3)["config"]
        self.assertEqual((config["block"], config["passes"], config["retrieve"]), (32, 3, 0))

    def test_special_cluster_options_win_over_the_common_one(self):
        folder = random_dump("clusters", nq=200)
        for order in [["--clusters", "4", "--clusters-q", "8"], ["--clusters-q", "8", "--clusters", "4"]]:
            config = muse_json("compare", folder, "--methods", "local", *order)["config"]
            self.assertEqual((config["clusters-q"], config["clusters-k"]), (8, 4))

    def test_a_head_of_its_own(self):
        folder = random_dump("own", nq=300)
        common = ["--block", 64, "--clusters", 8, "--dtype", "double"]
        file = self.write("own.json", common={"block": 64, "clusters": 8}, heads={"1": {"retrieve": 8, "block": 32}})
        result = run(folder, "--config", file, "--dtype", "double")
        plain = run(folder, *common)
        np.testing.assert_array_equal(result["o"][0], plain["o"][0])
        # Head 1 retrieves everything: exact.
        o, _ = attention_of_dump(folder, 1 / 4, True)
        self.assertLessEqual(np.abs(result["o"][1] - o[1]).max(), 1e-12)
        self.assertGreater(np.abs(plain["o"][1] - o[1]).max(), 1e-3)
        self.assertEqual(result["json"]["config"]["own"]["1"]["retrieve"], 8)
        # Head 1 has a level more; head 0 takes no part in it.
        self.assertEqual(result["labels_q"].shape[1], 4)
        self.assertTrue((result["labels_q"][0, 3] == -1).all())
        # What is typed wins for every head.
        typed = run(folder, "--config", file, "--retrieve", 0, "--block", 64, "--dtype", "double")
        np.testing.assert_array_equal(typed["o"], plain["o"])
        # compare and explain take it too.
        rows = {row["head"]: row for row in muse_json("compare", folder, "--config", file, "--methods", "muse")["rows"]}
        self.assertLess(rows[1]["rel_sq_err"], 1e-10)
        self.assertGreater(rows[0]["rel_sq_err"], 1e-6)
        self.assertEqual(muse_json("explain", folder, "--config", file, "--head", 1, "--query", 299)["config"]["block"], 32)

    def test_groups_with_other_key_clusters_do_not_share_labels(self):
        folder = random_dump("unshared", heads=2, heads_kv=1, nq=200)
        file = self.write("unshared.json", common={"block": 64, "clusters": 8}, heads={"1": {"clusters": 4}})
        result = run(folder, "--config", file)
        self.assertEqual(result["labels_k"][0].max(), 7)
        self.assertEqual(result["labels_k"][1].max(), 3)


class Compare(unittest.TestCase):
    ARGS = ["--block", 64, "--clusters", 8]

    def test_shape_of_the_json(self):
        folder = random_dump("shape", heads=3, nq=200)
        result = muse_json("compare", folder, *self.ARGS, "--methods", "exact,muse,local")
        self.assertEqual([(row["method"], row["head"]) for row in result["rows"]],
                         [(method, head) for head in range(3) for method in ["exact", "muse", "local"]])
        for row in result["rows"]:
            for key in ["rel_sq_err", "max_abs_err", "lse_bias", "seconds", "operations"]:
                self.assertIsInstance(row[key], (int, float), key)
            self.assertEqual(row["non_finite"], 0)
            self.assertNotIn("batch", row)
        self.assertEqual(list(result["summary"]), ["exact", "muse", "local"])
        self.assertEqual(result["config"]["mode"], "causal")
        for method, summary in result["summary"].items():
            rows = [row for row in result["rows"] if row["method"] == method]
            errors = [row["rel_sq_err"] for row in rows]
            self.assertAlmostEqual(summary["mean_rel_sq_err"], np.mean(errors), places=12)
            self.assertEqual(summary["max_rel_sq_err"], max(errors))
            self.assertAlmostEqual(summary["seconds"], sum(row["seconds"] for row in rows), places=9)
            self.assertEqual(summary["operations"], sum(row["operations"] for row in rows))
        self.assertEqual(result["summary"]["exact"]["max_rel_sq_err"], 0)
        # Exact causal attention: 2 (D + Dv) operations a pair.
        self.assertEqual(result["rows"][0]["operations"], 2 * 32 * 200 * 201 / 2)

    def test_errors_against_numpy(self):
        folder = random_dump("errors", heads=4, heads_kv=2, nq=400, dv=24)
        for mode in ["causal", "causal-shared", "acausal"]:
            args = [*self.ARGS, "--mode", mode, "--retrieve", 1]
            compared = muse_json("compare", folder, *args, "--methods", "muse,local")
            for method in ["muse", "local"]:
                result = run(folder, *args, "--method", method)
                truth = run(folder, *args, "--method", "exact")
                for head in range(4):
                    row = next(r for r in compared["rows"] if (r["method"], r["head"]) == (method, head))
                    o_hat, o = (r["o"][head].astype(float) for r in (result, truth))
                    error = ((o_hat - o) ** 2).sum() / (o ** 2).sum()
                    bias = (result["lse"][head].astype(float) - truth["lse"][head]).mean()
                    self.assertGreater(error, 1e-4)
                    self.assertAlmostEqual(row["rel_sq_err"], error, delta=1e-9 * error)
                    self.assertAlmostEqual(row["max_abs_err"], np.abs(o_hat - o).max(), delta=1e-9)
                    self.assertAlmostEqual(row["lse_bias"], bias, delta=1e-9)

    def test_reference_has_the_mode_of_the_run(self):
        folder = random_dump("reference", nq=200)
        for mode, pairs in [("causal", 200 * 201 / 2), ("acausal", 200 * 200)]:
            result = muse_json("compare", folder, "--mode", mode, "--methods", "local")
            self.assertEqual(result["reference"]["operations"], 2 * 2 * 32 * pairs)
            self.assertEqual(list(result["summary"]), ["local"])

    def test_settings_behind_colons(self):
        folder = random_dump("settings", nq=300)
        words = ["muse", "muse:clusters=S/16:4:8:retrieve=1,2:order=monopole", "muse:retrieve=2", "local:block=32"]
        result = muse_json("compare", folder, *self.ARGS, "--methods", ",".join(words))
        self.assertEqual(list(result["summary"]), words)
        same = muse_json("compare", folder, "--block", 64, "--clusters", "S/16:4:8", "--retrieve", "1,2", "--order",
                         "monopole", "--methods", "muse")
        self.assertEqual(same["summary"]["muse"]["mean_rel_sq_err"], result["summary"][words[1]]["mean_rel_sq_err"])
        self.assertNotEqual(result["summary"]["muse"]["mean_rel_sq_err"],
                            result["summary"]["muse:retrieve=2"]["mean_rel_sq_err"])
        local = muse_json("compare", folder, "--block", 32, "--methods", "local")
        self.assertEqual(local["summary"]["local"]["mean_rel_sq_err"],
                         result["summary"]["local:block=32"]["mean_rel_sq_err"])

    def test_orders_differ(self):
        folder = random_dump("orders", nq=300)
        result = muse_json("compare", folder, *self.ARGS, "--methods", ",".join(f"muse:order={o}" for o in ORDERS))
        errors = [summary["mean_rel_sq_err"] for summary in result["summary"].values()]
        self.assertEqual(len(set(errors)), len(ORDERS))
        self.assertLess(errors[3], errors[1])

    def test_batch(self):
        folder = random_dump("compare-batch", heads=2, nq=100, batch=2)
        result = muse_json("compare", folder, "--block", 32, "--methods", "local")
        self.assertEqual([(row["batch"], row["head"]) for row in result["rows"]], [(0, 0), (0, 1), (1, 0), (1, 1)])

    def test_csv_table_and_png(self):
        folder = random_dump("files", nq=200)
        png, file = ROOT / "compare.png", ROOT / "compare.csv"
        done = muse("compare", folder, *self.ARGS, "--png", png, "--csv", file, "--methods", "muse:retrieve=1,2,local")
        self.assertIn("rel. sq. error", done.stdout)
        self.assertNotIn("\033", done.stdout)
        self.assertEqual(png.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        rows = list(csv.DictReader(file.read_text().splitlines()))
        self.assertEqual([row["method"] for row in rows], ["muse:retrieve=1,2", "local"] * 2)
        on_stdout = muse("compare", folder, *self.ARGS, "--csv", "-", "--methods", "muse:retrieve=1,2,local").stdout
        again = list(csv.DictReader(io.StringIO(on_stdout)))
        self.assertEqual([row["rel_sq_err"] for row in again], [row["rel_sq_err"] for row in rows])

    def test_overflow_is_said_aloud(self):
        q, k, v = np.random.default_rng(0).standard_normal((3, 1, 100, 8)).astype(np.float32)
        q[:, 90:] *= 1e30  # the logits of the last ten queries overflow, those of the others do not
        folder = write_dump("overflow", q, 1e10 * k, v)
        done = muse("compare", folder, "--block", 32, "--methods", "local", "--json", "-")
        result = json.loads(done.stdout)
        self.assertEqual(result["rows"][0]["non_finite"], 10)
        self.assertIsNone(result["rows"][0]["rel_sq_err"])
        self.assertIsNone(result["summary"]["local"]["mean_rel_sq_err"])
        self.assertIn("NOT FINITE", done.stderr)
        self.assertIn("NOT FINITE", muse("compare", folder, "--block", 32, "--methods", "local").stdout)


class Explain(unittest.TestCase):
    def check(self, mode, order, retrieve):
        name = f"explain-{mode}-{order}-{retrieve}"
        folder = random_dump(name, heads=2, heads_kv=1, nq=300, dv=24)
        args = ["--mode", mode, "--block", 64, "--clusters", 8, "--order", order, "--retrieve", retrieve]
        result = run(folder, *args)
        o, lse = attention_of_dump(folder, 1 / 4, mode != "acausal")
        for query in [0, 63, 64, 200, 299]:
            told = muse_json("explain", folder, *args, "--head", 1, "--query", query)
            # What is told is what the run gives, and the truth is numpy's.
            np.testing.assert_allclose(told["merged"]["o"], result["o"][1, query], atol=2e-5)
            self.assertAlmostEqual(told["merged"]["lse"], result["lse"][1, query], delta=2e-5)
            np.testing.assert_allclose(told["exact"]["o"], o[1, query], atol=1e-6)
            self.assertAlmostEqual(told["exact"]["lse"], lse[1, query], delta=1e-6)
            shares = sum(level["exact_share"] for level in told["levels"])
            if "local" in told:
                shares += told["local"]["exact_share"]
            self.assertAlmostEqual(shares, 1, delta=1e-9)
            for level in told["levels"]:
                self.assertEqual(level["cluster"], result["labels_q"][1, level["level"], query])
                begin, end = level["keys"]
                labels = result["labels_k"][1, level["level"], begin:end]
                counts = {c["cluster"]: c["tokens"] for c in level["clusters"]}
                self.assertEqual(counts, dict(zip(*map(list, np.unique(labels, return_counts=True)))))
                self.assertEqual(sum(c["retrieved"] for c in level["clusters"]), min(retrieve, len(counts)))
                for cluster in level["clusters"]:
                    if order in ("centroid", "dipole", "dipole_value"):
                        self.assertGreater(cluster["mass_error"], -1e-4)  # tangents lie below

    def test_against_run_and_numpy(self):
        self.check("causal", "dipole", 2)
        self.check("causal-shared", "monopole", 0)
        self.check("acausal", "centroid", 1)
        self.check("acausal", "dipole_value", 0)
        self.check("causal", "dipole_spread", 1)

    def test_text_names_the_formulas(self):
        folder = random_dump("explain-text", nq=200)
        text = muse("explain", folder, "--block", 64, "--clusters", 8, "--retrieve", 1, "--head", 0, "--query", 150).stdout
        for formula in ["(1.1)", "(1.3)", "(4.1)", "(4.3)", "(5.1)", "(5.2)", "(6.1)", "(6.2)", "(7.1)", "(8.4)"]:
            self.assertIn(formula, text)


class Blocks(unittest.TestCase):
    def test_every_pair_once(self):
        for tokens, block in [(1, 1), (5, 8), (100, 16), (1000, 7), (16384, 1024), (65536, 1024)]:
            told = muse_json("blocks", "--tokens", tokens, "--block", block)
            self.assertEqual(told["pairs_covered"], tokens * (tokens + 1) / 2)
            self.assertTrue(told["covered_once"])
            self.assertEqual(sum(level["pairs"] for level in told["levels"]), told["pairs_covered"])

    def test_operations_are_those_of_a_run(self):
        folder = random_dump("planned", heads=1, nq=400)
        for order in ORDERS:
            for mode in ["causal", "causal-shared", "acausal"]:
                args = ["--block", 64, "--clusters", 8, "--mode", mode, "--order", order]
                stages = run(folder, *args)["json"]["heads"][0]["stages"]
                planned = muse_json("blocks", "--tokens", 400, "--dim", 16, *args)["operations"]
                self.assertAlmostEqual(planned["clustering"] / stages["clustering"]["operations"], 1, delta=1e-9)
                self.assertAlmostEqual(planned["local"], stages["local"]["operations"])
                for part in ["summaries", "far_field"]:
                    # A cluster may stay empty in the run; queries may leave one without any.
                    self.assertAlmostEqual(planned[part] / stages["far"][part]["operations"], 1, delta=0.05)

    def test_drawing(self):
        text = muse("blocks", "--tokens", 100, "--block", 32).stdout
        self.assertIn("\\ . . .\n  0 \\ . .\n  1 1 \\ .\n  1 1 0 \\\n", text)
        self.assertIn("each pair once", text)
        self.assertNotIn("0 \\", muse("blocks", "--tokens", 10000, "--block", 32).stdout)


class Info(unittest.TestCase):
    def test_figures_against_numpy(self):
        folder = random_dump("info", heads=2, heads_kv=1, nq=1500, d=8)
        told = muse_json("info", folder)
        q, k, _ = load(folder)
        sampled = [(2 * i + 1) * 1500 // 1024 for i in range(512)]
        for head in range(2):
            entropy, far = [], []
            for t in sampled:
                logits = q[head, t] @ k[0, :t + 1].T / np.sqrt(8)
                p = np.exp(logits - logits.max())
                p /= p.sum()
                entropy.append(-(p * np.log2(p)).sum())
                far.append(p[:max(0, t - 1024)].sum())
            self.assertAlmostEqual(told["heads"][head]["entropy_bits"], np.mean(entropy), places=9)
            self.assertAlmostEqual(told["heads"][head]["far_mass"], np.mean(far), places=9)
            norm = np.sqrt((q[head] ** 2).sum(axis=1).mean())
            self.assertAlmostEqual(told["heads"][head]["q_norm"], norm, places=9)
        self.assertTrue(told["finite"])
        self.assertEqual(told["k"]["shape"], [1, 1500, 8])
        self.assertIn("512", muse("info", folder).stdout)

    def test_nan_is_reported_not_refused(self):
        q = np.random.default_rng(0).standard_normal((1, 40, 8)).astype(np.float32)
        broken = q.copy()
        broken[0, 3, 2], broken[0, 5, 1] = np.nan, np.inf
        folder = write_dump("nan", broken, q, q)
        told = muse_json("info", folder)
        self.assertFalse(told["finite"])
        self.assertEqual(told["non_finite"], {"q": 2, "k": 0, "v": 0})
        self.assertIn("NOT FINITE", muse("info", folder).stdout)
        for command in [["run", folder, "--out", ROOT / "nan-out"], ["compare", folder],
                        ["explain", folder, "--head", 0, "--query", 0]]:
            muse(*command, status=2)
        self.assertFalse((ROOT / "nan-out").exists())


class Synth(unittest.TestCase):
    def make(self, name, *args):
        folder = ROOT / name
        muse("synth", folder, *args)
        return folder

    def test_shapes(self):
        folder = self.make("synth-shapes", "--tokens", 50, "--heads", 4, "--heads-kv", 2, "--dim", 8, "--dim-v", 12, "--batch",
                           3, "--dtype", "float32", "--scale", 0.5)
        q, k, v = (np.load(folder / f"{name}.npy") for name in "qkv")
        self.assertEqual((q.shape, k.shape, v.shape), ((3, 4, 50, 8), (3, 2, 50, 8), (3, 2, 50, 12)))
        self.assertEqual(q.dtype, np.float32)
        self.assertEqual(muse_json("info", folder)["scale"], 0.5)

    def test_the_same_bytes_for_the_same_seed(self):
        for kind in ["clustered", "gaussian", "sinks"]:
            args = ["--kind", kind, "--tokens", 100, "--heads", 2]
            folders = [self.make(f"synth-{kind}-{i}", *args, "--seed", seed) for i, seed in enumerate([3, 3, 4])]
            for name in "qkv":
                data = [(folder / f"{name}.npy").read_bytes() for folder in folders]
                self.assertEqual(data[0], data[1])
                self.assertNotEqual(data[0], data[2])

    def test_these_very_numbers(self):
        folder = self.make("synth-fixed", "--kind", "gaussian", "--tokens", 2, "--heads", 1, "--dim", 2, "--dtype", "float64",
                           "--seed", 0)
        # The first draws of std::mt19937_64(0), as its definition gives them.
        draws = mt19937_64(0, 3)
        expected = (sum((d >> s) & 0xFFFF for d in draws for s in (0, 16, 32, 48)) + 6) / 65536 - 6
        self.assertEqual(np.load(folder / "q.npy")[0, 0, 0], expected)

    def test_kinds_are_what_they_say(self):
        args = ["--tokens", 2000, "--heads", 1, "--dtype", "float64"]
        q, k, _ = load(self.make("synth-gaussian", "--kind", "gaussian", *args))
        self.assertAlmostEqual(q.mean(), 0, delta=0.02)
        self.assertAlmostEqual(q.var(), 1, delta=0.02)
        sinks = muse_json("explain", self.make("synth-sinks", "--kind", "sinks", *args), "--head", 0, "--query", 1999)
        q, k, v = load(ROOT / "synth-sinks")
        logits = q[0] @ k[0].T / 8
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        self.assertGreater(p[:, :4].sum(axis=1).mean(), 0.5)
        self.assertGreater(sinks["levels"][-1]["exact_share"], 0.5)
        _, k, _ = load(self.make("synth-clustered", "--kind", "clustered", "--clusters", 5, *args))
        distances = np.linalg.norm(k[0, :, None] - k[0, None, :200], axis=2)
        self.assertTrue(((distances < 8) | (distances > 9)).mean() > 0.99)  # near or far, little between


def mt19937_64(seed, count):
    """The 64-bit Mersenne Twister, from its definition."""
    mask = (1 << 64) - 1
    state = [seed]
    for i in range(1, 312):
        state.append((6364136223846793005 * (state[-1] ^ (state[-1] >> 62)) + i) & mask)
    upper, lower = mask ^ ((1 << 31) - 1), (1 << 31) - 1
    for i in range(312):
        x = (state[i] & upper) | (state[(i + 1) % 312] & lower)
        state[i] = state[(i + 156) % 312] ^ (x >> 1) ^ (0xB5026F5AA96619E9 if x & 1 else 0)
    draws = []
    for x in state[:count]:
        x ^= (x >> 29) & 0x5555555555555555
        x ^= (x << 17) & 0x71D67FFFEDA60000 & mask
        x ^= (x << 37) & 0xFFF7EEE000000000 & mask
        draws.append(x ^ (x >> 43))
    return draws


class WrongInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dump = random_dump("wrong", heads=2, nq=100)
        cls.rectangle = random_dump("wrong-rectangle", nq=50, nk=100)

    def test_wrong_use_is_1(self):
        out = ROOT / "wrong-out"
        for args in [[], ["nonsense"], ["compare"], ["run", self.dump], ["compare", self.dump, "--no-such-option"],
                     ["compare", self.dump, "--order", "quadrupole"], ["compare", self.dump, "--clusters", "S/0"],
                     ["compare", self.dump, "--block", "0"], ["compare", self.dump, "--retrieve", "-1"],
                     ["compare", self.dump, "--heads", "2"], ["compare", self.dump, "--heads", "0,x"],
                     ["compare", self.dump, "--heads", ""], ["compare", self.dump, "--tokens", "101"],
                     ["compare", self.dump, "--tokens", "0"], ["compare", self.dump, "--threads", "0"],
                     ["compare", self.dump, "--dtype", "half"], ["compare", self.dump, "--methods", "exact,flash"],
                     ["compare", self.dump, "--methods", "muse,muse"], ["compare", self.dump, "--methods", ""],
                     ["compare", self.dump, "--methods", "muse:colour=red"],
                     ["compare", self.dump, "--methods", "muse:retrieve"], ["compare", self.dump, "--methods", "exact:block=2"],
                     ["compare", self.dump, "--methods", "muse:mode=acausal"],
                     ["compare", self.dump, "--json", "-", "--csv", "-"],
                     ["run", self.dump, "--method", "flash", "--out", out],
                     ["explain", self.dump, "--head", "2", "--query", "0"],
                     ["explain", self.dump, "--head", "0", "--query", "100"],
                     ["explain", self.dump, "--head", "0", "--query", "-1"],
                     ["explain", self.dump, "--head", "0", "--query", "0", "--batch", "1"],
                     ["blocks"], ["blocks", "--tokens", "0"], ["synth", ROOT / "x", "--heads", "4", "--heads-kv", "3"],
                     ["synth", ROOT / "x", "--kind", "odd"], ["synth", ROOT / "x", "--tokens", "-4"]]:
            with self.subTest(args=[str(arg) for arg in args]):
                done = muse(*args, status=1)
                self.assertEqual(done.stdout, "")
        self.assertFalse(out.exists())

    def test_messages_say_what_is_there(self):
        self.assertIn("100 tokens", muse("compare", self.dump, "--tokens", 101, status=1).stderr)
        self.assertIn("0 to 1", muse("compare", self.dump, "--heads", 5, status=1).stderr)
        self.assertIn("dipole", muse("compare", self.dump, "--order", "quadrupole", status=1).stderr)

    def test_file_problems_are_2(self):
        missing = ROOT / "nowhere"
        truncated = random_dump("truncated", nq=20)
        data = (truncated / "k.npy").read_bytes()
        (truncated / "k.npy").write_bytes(data[:-7])
        bad_config = ROOT / "bad.json"
        bad_config.write_text("{")
        unknown = ROOT / "unknown.json"
        unknown.write_text('{"format": "muse-config/1", "common": {"colour": "red"}}')
        for args in [["info", missing], ["compare", missing], ["compare", truncated],
                     ["compare", self.dump, "--config", missing], ["compare", self.dump, "--config", bad_config],
                     ["compare", self.dump, "--config", unknown],
                     ["compare", self.dump, "--json", missing / "x.json"],
                     ["compare", self.dump, "--png", missing / "x.png"],
                     ["run", self.dump, "--out", self.dump / "q.npy"]]:
            with self.subTest(args=[str(arg) for arg in args]):
                muse(*args, status=2)
        self.assertIn("k.npy", muse("compare", truncated, status=2).stderr)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_is_2(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([MUSE, "blocks", "--tokens", "100"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2)

    def test_misfits_are_3(self):
        misfit = write_dump("misfit", np.zeros((2, 9, 4), np.float32), np.zeros((2, 9, 6), np.float32),
                            np.zeros((2, 9, 4), np.float32))
        version = random_dump("version", nq=9)
        (version / "meta.json").write_text('{"format": "muse-dump/9"}')
        config = ROOT / "version.json"
        config.write_text('{"format": "muse-config/9"}')
        for args in [["info", misfit], ["compare", misfit], ["compare", version],
                     ["compare", self.dump, "--config", config], ["compare", self.rectangle, "--mode", "causal"],
                     ["compare", self.rectangle, "--mode", "acausal", "--methods", "local"],
                     ["run", self.rectangle, "--out", ROOT / "misfit-out"]]:
            with self.subTest(args=[str(arg) for arg in args]):
                muse(*args, status=3)
        self.assertIn("--mode acausal", muse("compare", self.rectangle, status=3).stderr)
        self.assertFalse((ROOT / "misfit-out").exists())


class Terminal(unittest.TestCase):
    """What only shows on a terminal, and what Ctrl-C does."""

    @classmethod
    def setUpClass(cls):
        cls.dump = ROOT / "long"
        muse("synth", cls.dump, "--tokens", 32768, "--heads", 8, "--kind", "gaussian")

    def on_terminal(self, *args, stop_after=None, seconds=30, env=None):
        """Runs with standard output and error on a pseudo-terminal; gives what came and the status."""
        master, slave = pty.openpty()
        process = subprocess.Popen([MUSE, *map(str, args)], stdout=slave, stderr=slave, env={**os.environ, **(env or {})})
        os.close(slave)
        text, start = b"", time.monotonic()
        while time.monotonic() - start < seconds:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    break
                if not data:
                    break
                text += data
            if stop_after is not None and stop_after in text:
                process.send_signal(signal.SIGINT)
                stop_after = None
        process.wait(timeout=seconds)
        os.close(master)
        return text.decode(), process.returncode

    def test_bar_on_a_terminal_and_interrupt(self):
        out = ROOT / "interrupted"
        out.mkdir()
        (out / "o.npy").write_text("of another run")
        text, status = self.on_terminal("run", self.dump, "--method", "exact", "--threads", 1, "--out", out, stop_after=b"%")
        self.assertEqual(status, 130, text)
        self.assertIn("head 0 exact", text)
        self.assertIn("interrupted", text)
        self.assertEqual([path.name for path in out.iterdir()], ["o.npy"])
        self.assertEqual((out / "o.npy").read_text(), "of another run")

    def test_no_bar_in_a_pipe(self):
        process = subprocess.Popen([MUSE, "compare", self.dump, "--threads", "1", "--json", "-"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        time.sleep(2.5)
        self.assertIsNone(process.poll(), "the work was too short to tell")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(out, b"")
        self.assertNotIn(b"%", err)

    def test_colours_on_a_terminal_only(self):
        args = ["blocks", "--tokens", 4096]
        environment = {"NO_COLOR": ""}
        self.assertIn("\033[1m", self.on_terminal(*args, env=environment)[0])
        self.assertNotIn("\033", self.on_terminal(*args, env={"NO_COLOR": "1"})[0])
        self.assertNotIn("\033", muse(*args).stdout)


if __name__ == "__main__":
    try:
        unittest.main(verbosity=1)
    finally:
        WORK.cleanup()
