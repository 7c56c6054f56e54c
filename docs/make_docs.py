#!/usr/bin/env python3
"""Puts the numbers of committed JSON files into README.md and docs/*.md.

A page holds blocks between the lines

    <!-- generated: NAME -->
    <!-- end generated: NAME -->

and this script writes what stands between them. NAME is one of those in `generators` below:

    compare   docs/results/reference_compare.json, from `muse compare --json`
    bench     docs/results/bench_reference.json, from `bench_reference --json`: one result, or a list of them
    side-by-side
              docs/results/side_by_side_h100.json, from `cuda/bench/side_by_side.py --json`
    gpu-ladder
              the same and docs/results/side_by_side_h100_first.json, that of the first commit that ran end to end
    tour-…    tests/example16.json, from tests/example16.py
    viewer-…  docs/results/viewer_walkthrough.json, from docs/viewer_walkthrough.py

    docs/make_docs.py            rewrites the pages
    docs/make_docs.py --check    writes nothing; exit status 1 if a block is not what its JSON says
"""
import argparse
import json
import math
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN = re.compile(r"<!-- generated: (\S+) -->\s*")
END = re.compile(r"<!-- end generated: (\S+) -->\s*")


class DocsError(Exception):
    """What the user can mend: the message says where and how."""


# ---- Text ----------------------------------------------------------------------------------------------------------


def table(header, rows, right=()):
    """A Markdown table; the columns in `right` are aligned to the right."""
    rule = ["--:" if column in right else "---" for column in range(len(header))]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [header, rule, *rows])


def fixed(x, digits=4):
    text = f"{x:.{digits}f}"
    return text[1:] if float(text) == 0 and text.startswith("-") else text  # no minus zero


def significant(x, digits=3):
    """Three significant digits without an exponent where that is short: 0.0523, 0.000187, 1.7e-08."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    exponent = int(f"{x:.{digits - 1}e}".split("e")[1])
    return f"{x:.{digits - 1}e}" if exponent < -5 else f"{x:.{max(0, digits - 1 - exponent)}f}"


def percent(x):
    return f"{100 * x:.0f} %"


def vector(x, form=fixed):
    return "(" + ", ".join(map(form, x)) + ")"


def plain(x):
    return f"{x:g}"


def listed(items):
    items = list(map(str, items))
    return ", ".join(items) if items else "none"


# ---- Measurements --------------------------------------------------------------------------------------------------


def clusters_of(config):
    q, k = config["clusters-q"], config["clusters-k"]
    return f"clusters `{q}`" if q == k else f"query clusters `{q}`, key clusters `{k}`"


def make_compare(data):
    methods = list(dict.fromkeys(row["method"] for row in data["rows"]))
    exact_seconds = data["reference"]["seconds"]
    rows, notes = [], []
    for method in methods:
        figures = data["summary"][method]
        rows.append([f"`{method}`", significant(figures["mean_rel_sq_err"]), significant(figures["max_rel_sq_err"]),
                     percent(figures["relative_operations"]), percent(figures["seconds"] / exact_seconds)])
        if figures["non_finite"]:
            notes.append(f"`{method}`: {figures['non_finite']} outputs are not finite; its errors leave them out.")
    config, versions = data["config"], data["versions"]
    dump = config["dump"]
    names = dump.get("head_names") or []
    heads = listed(names[h] if h < len(names) and names[h] else f"head {h}" for h in config["heads"])
    line = (f"Dump `{pathlib.PurePosixPath(dump['path']).name}` ({heads}), {config['tokens']} tokens, "
            f"mode `{config['mode']}`, blocks of {config['block']}, {clusters_of(config)}, {config['dtype']}; "
            f"{versions['compiler']}, {config['threads']} threads, commit `{versions['commit']}`.")
    header = ["method", "mean error", "largest", "operations of exact", "time of exact"]
    return "\n\n".join([table(header, rows, right=range(1, 5)), *notes, line])


def make_bench(data):
    runs = data if isinstance(data, list) else [data]
    rows, lines = [], []
    for run in runs:
        if not run["right"]:
            raise DocsError("its result is marked as wrong (\"right\": false): measure again")
        rows.append([run["tokens"], percent(run["exact_rate_of_products"]), percent(run["muse_time_of_exact"]),
                     significant(run["mean_rel_sq_err"]), f"{run['peak_memory_gib']:.2f} GiB"])
        config, version = run["config"], run["version"]
        rounds = "one round" if run["repeats"] == 1 else f"medians of {run['repeats']} rounds"
        heads = "1 head" if run["heads"] == 1 else f"{run['heads']} heads"
        line = (f"Dump `{pathlib.PurePosixPath(run['dump']).name}`, {heads}, mode `{config['mode']}`, "
                f"order `{config['order']}`, blocks of {config['block']}, {clusters_of(config)}, "
                f"retrieve `{config['retrieve']}`; {version['compiler']}, {run['threads']} threads, "
                f"{rounds}, commit `{version['commit']}`.")
        if line not in lines:
            lines.append(line)
    header = ["tokens", "rate of exact attention, of its bare products", "time of MuSe, of exact", "mean error",
              "peak memory"]
    return "\n\n".join([table(header, rows, right=range(5)), "\n".join(lines)])


def milliseconds(x):
    return f"{x['median_ms']:.2f}" if "median_ms" in x else ""


def make_side_by_side(data):
    rows = []
    for case in data["cases"]:
        for row in case["rows"]:
            if row["wrong"]:
                raise DocsError(f"{case['case']}: a result is marked as wrong: {row['wrong']}; measure again")
            # '|' parts the values of heads, and the cells of a table.
            settings = ", ".join(f"{name} {value}".replace("|", " \\| ") for name, value in row["settings"].items()
                                 if name != "mode")
            target = "" if case["target_speedup"] is None else f"{case['target_speedup']:g}x"
            if case["target_error"] is not None:
                target += f" at {case['target_error']:g}"
            rows.append([case["case"], case["heads"], settings, milliseconds(case["cudnn"]),
                         milliseconds(case["flash"]), milliseconds(row),
                         f"{row['speedup']:.1f}x" if "speedup" in row else "",
                         significant(row["mean_rel_sq_err"]) if case["inputs"] != "random" else "random inputs", target])
    versions = data["versions"]
    launched = "replayed as a CUDA graph" if data["graph"] else "launched each time"
    line = (f"{data['device']}, driver {data['driver']}, CUDA {versions['cuda']}, PyTorch {versions['torch']}, cuDNN "
            f"{versions['cudnn']}; bfloat16, forward, clustering included; medians of {data['repeats']} alternating runs, "
            f"milliseconds; MuSe {launched}; commit `{versions['commit']}`.")
    header = ["case", "heads", "settings", "cuDNN", "flash", "MuSe", "speed-up over cuDNN", "error", "set out for"]
    return "\n\n".join([table(header, rows, right=(1, 3, 4, 5, 6, 7)), line])


def make_gpu_ladder(first, now):
    """Each case at its target's setting, the first of its rows: when the path first ran, and now."""
    before = {case["case"]: case["rows"] for case in first["cases"]}
    rows = []
    for case in now["cases"]:
        then = min((row for row in before.get(case["case"], []) if "median_ms" in row), key=lambda row: row["median_ms"],
                   default=None)
        row = case["rows"][0]
        if then is None:
            continue
        error = [significant(x["mean_rel_sq_err"]) if case["inputs"] != "random" else "" for x in (then, row)]
        rows.append([case["case"], milliseconds(then), error[0], milliseconds(row), error[1],
                     f"{then['median_ms'] / row['median_ms']:.2f}x"])
    header = ["case", "first, ms", "error", "now, ms", "error", "gain"]
    line = (f"{now['device']}; commits `{first['versions']['commit']}` and `{now['versions']['commit']}`; medians of "
            f"{now['repeats']} runs.")
    return "\n\n".join([table(header, rows, right=(1, 2, 3, 4, 5)), line])


# ---- The tour ------------------------------------------------------------------------------------------------------


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def distance_sq(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


def logsumexp(x):
    m = max(x)
    return m + math.log(sum(math.exp(value - m) for value in x))


def members(labels, c, first):
    return [first + n for n, label in enumerate(labels) if label == c]


class Tour:
    """The blocks of docs/tour.md. Everything is read from the JSON or is a line of arithmetic on it."""

    def __init__(self, data):
        self.data, self.inputs, self.blocks = data, data["inputs"], data["blocks"]
        self.q, self.k, self.v = (self.inputs[name] for name in "qkv")
        self.s = self.inputs["scale"]

    def exact(self, t, tokens):
        """Exact attention of query t to some tokens: output and log-sum-exp."""
        logits = [self.s * dot(self.q[t], self.k[n]) for n in tokens]
        L = logsumexp(logits)
        return sum(math.exp(a - L) * self.v[n][0] for a, n in zip(logits, tokens)), L

    def make_inputs(self):
        theme = ["A" if k[0] > k[1] else "B" for k in self.k]
        header = ["token", "theme", "query $q$", "key $k$", "value $v$"]
        return table(header, [[t, theme[t], vector(self.q[t], plain), vector(self.k[t], plain), plain(self.v[t][0])]
                              for t in range(self.inputs["N"])])

    def make_settings(self):
        x = self.inputs
        return table(["$N$", "$D$", "$D_v$", "$s$", "$B$", "$C_q=C_k$", "$r$", "$T$"],
                     [[x["N"], x["D"], x["Dv"], plain(x["scale"]), x["B"], x["C"], x["r"], x["passes"]]])

    def make_blocks(self):
        B, N = self.inputs["B"], self.inputs["N"]
        names = "abcdefgh"
        cells = [[" "] * (N // B) for _ in range(N // B)]
        for t in range(N // B):
            cells[t][t] = "D"
        for name, block in zip(names, self.blocks):
            for row in range(block["query_begin"] // B, block["query_end"] // B):
                for column in range(block["key_begin"] // B, block["key_end"] // B):
                    cells[row][column] = name
        spans = [f"{t * B}-{t * B + B - 1}" for t in range(N // B)]
        lines = ["           keys", "queries    " + " ".join(f"{span:6}" for span in spans)]
        for span, row in zip(spans, cells):
            lines.append(f"{span:9}  " + " ".join(f"{' '.join(cell * 3):6}" for cell in row))
        rows = [["D", "", f"{listed(spans)}", "the same, up to itself", "exact"]]
        rows += [[name, block["level"], f"{block['query_begin']}-{block['query_end'] - 1}",
                  f"{block['key_begin']}-{block['key_end'] - 1}", "approximated"]
                 for name, block in zip(names, self.blocks)]
        drawing = "\n".join(line.rstrip() for line in lines)
        return f"```\n{drawing}\n```\n\n" + table(["block", "level $m$", "queries", "keys", ""], rows)

    def make_diagonal(self):
        B = self.inputs["B"]
        rows = []
        for t, (o, L) in enumerate(zip(self.data["diagonal"]["o"], self.data["diagonal"]["lse"])):
            first = t // B * B
            rows.append([t, listed(range(first, t + 1)), fixed(o[0]), fixed(L)])
        return table(["query", "keys it sees in its block", "$o$", "$L$"], rows, right=(2, 3))

    def make_kmeans(self, b):
        """(2.2) of the keys of a block: the seeds' distances, and the centroids after the pass."""
        block, C = self.blocks[b], self.inputs["C"]
        first, n = block["key_begin"], block["key_end"] - block["key_begin"]
        seeds = [first + c * n // C + n // (2 * C) for c in range(C)]
        rows = [[t, vector(self.k[t], plain), *(plain(distance_sq(self.k[t], self.k[seed])) for seed in seeds),
                 block["labels_k"][t - first]] for t in range(first, first + n)]
        header = ["token", "key", *(f"squared distance to token {seed}" for seed in seeds), "label"]
        centroids = []
        for c in range(C):
            own = members(block["labels_k"], c, first)
            mean = [sum(self.k[t][d] for t in own) / len(own) for d in range(self.inputs["D"])]
            centroids.append(f"{vector(mean, plain)} of tokens {listed(own)}")
        return table(header, rows) + "\n\nMeans of the members: " + "; ".join(centroids) + "."

    def make_clusters(self, b):
        block = self.blocks[b]
        rows = [[c, listed(members(block["labels_k"], c, block["key_begin"])),
                 listed(members(block["labels_home"], c, block["key_begin"])), vector(block["q_bar"][c], plain),
                 listed(members(block["labels_q"], c, block["query_begin"]))] for c in range(self.inputs["C"])]
        return table(["cluster", "its keys $K_j$", "its home queries $H_i$", "$\\bar q_i$", "queries assigned to it"],
                     rows)

    def make_assignment(self, b):
        block = self.blocks[b]
        rows = []
        for query in block["queries"]:
            t = query["token"]
            rows.append([t, vector(self.q[t], plain), *(plain(distance_sq(self.q[t], c)) for c in block["q_bar"]),
                         query["cluster"]])
        to_centroids = [f"squared distance to $\\bar q_{c}$" for c in range(self.inputs["C"])]
        header = ["query", "$q$", *to_centroids, "cluster $i$"]
        return table(header, rows)

    def make_shares(self, b):
        block, C = self.blocks[b], self.inputs["C"]
        rows = []
        for n, label in enumerate(block["labels_k"]):
            t = block["key_begin"] + n
            row = [t, label]
            for i in range(C):
                row += [plain(self.s * dot(block["q_bar"][i], self.k[t])), fixed(block["p"][i][n])]
            rows.append(row)
        header = ["key", "cluster $j$"]
        for i in range(C):
            header += [f"logit from $\\bar q_{i}$ (3.1)", f"share (3.3), $i={i}$"]
        return table(header, rows, right=range(2, 2 + 2 * C))

    def make_summaries(self, b):
        block, C = self.blocks[b], self.inputs["C"]
        rows = [[i, j, fixed(block["L"][i][j]), vector(block["k_tilde"][i][j]), fixed(block["v_tilde"][i][j][0]),
                 "yes" if j in block["retrieved"][i] else ""] for i in range(C) for j in range(C)]
        text = table(["seen from $i$", "cluster $j$", "$L_{ij}$ (3.2)", "$\\tilde k_{ij}$ (3.4)",
                      "$\\tilde v_{ij}$ (3.5)", "retrieved (5.1)"], rows, right=(2, 4))
        # The first log-mass by hand.
        keys = members(block["labels_k"], 0, block["key_begin"])
        terms = "+".join(f"e^{{{plain(self.s * dot(block['q_bar'][0], self.k[t]))}}}" for t in keys)
        return text + f"\n\nBy hand, $i=j=0$: $L_{{00}}=\\log({terms})={fixed(block['L'][0][0])}$."

    def make_masses(self, b):
        """(4.1), (4.2), beside the exact log-masses that (4.2) stands for."""
        block, C = self.blocks[b], self.inputs["C"]
        rows = []
        for query in block["queries"]:
            exact = [self.exact(query["token"], members(block["labels_k"], j, block["key_begin"]))[1] for j in range(C)]
            row = [query["token"], query["cluster"], vector(query["delta"], plain)]
            for j in range(C):
                row += [fixed(query["ell"][j]), fixed(exact[j])]
            rows.append(row)
        header = ["query", "$i$", "$\\delta$ (4.1)"]
        for j in range(C):
            header += [f"$\\ell_{j}$ (4.2)", f"exact, $j={j}$"]
        # One of them by hand: the first query and its far cluster.
        query = block["queries"][0]
        i, delta = query["cluster"], query["delta"]
        j = next(j for j in range(C) if j not in block["retrieved"][i])
        factors = [plain(d) if d >= 0 else f"({plain(d)})" for d in delta]
        products = " + ".join(f"{d} · {fixed(x)}" for d, x in zip(factors, block["k_tilde"][i][j]))
        by_hand = (f"By hand, query {query['token']} and cluster {j}: {fixed(block['L'][i][j])} + {plain(self.s)} · "
                   f"({products}) = {fixed(query['ell'][j])}.")
        return table(header, rows, right=range(3, 3 + 2 * C)) + "\n\n" + by_hand

    def make_parts(self, b):
        block = self.blocks[b]
        keys = range(block["key_begin"], block["key_end"])
        rows = []
        for query in block["queries"]:
            o, L = self.exact(query["token"], keys)
            rows.append([query["token"], fixed(query["retrieved_o"][0]), fixed(query["retrieved_lse"]),
                         fixed(query["far_o"][0]), fixed(query["far_lse"]), fixed(query["o"][0]), fixed(query["lse"]),
                         fixed(o), fixed(L)])
        header = ["query", "retrieved $o$ (5.2)", "$L$", "far $\\hat o$ (4.4)", "LSE (4.3)", "merged $\\hat o$ (1.3)",
                  "$\\hat L$", "exact $o$ of this block", "exact $L$"]
        # The first merge by hand.
        query = block["queries"][0]
        far = math.exp(query["far_lse"] - query["lse"])
        by_hand = (f"By hand, query {query['token']}: the far part has $e^{{{fixed(query['far_lse'])}}}$ of a mass of "
                   f"$e^{{{fixed(query['lse'])}}}$, a share of {fixed(far)}, and "
                   f"${fixed(1 - far)}\\cdot{fixed(query['retrieved_o'][0])}+{fixed(far)}\\cdot{fixed(query['far_o'][0])}"
                   f"={fixed(query['o'][0])}$.")
        return table(header, rows, right=range(1, 9)) + "\n\n" + by_hand

    def make_merge(self):
        """(1.3) of all parts of a query: each part's share of the mass, and its output."""
        levels = 1 + max(block["level"] for block in self.blocks)
        rows = []
        for t in range(self.inputs["N"]):
            parts = [(self.data["diagonal"]["o"][t][0], self.data["diagonal"]["lse"][t])]
            for level in range(levels):
                found = [query for block in self.blocks if block["level"] == level for query in block["queries"]
                         if query["token"] == t]
                parts.append((found[0]["o"][0], found[0]["lse"]) if found else None)
            L = self.data["muse"]["lse"][t]
            cells = ["" if part is None else f"{fixed(math.exp(part[1] - L), 3)} · {fixed(part[0])}" for part in parts]
            rows.append([t, *cells, fixed(self.data["muse"]["o"][t][0])])
        header = ["query", "diagonal", *(f"level {level}" for level in range(levels)), "$\\hat o$"]
        return table(header, rows, right=range(1, len(header)))

    def make_result(self):
        muse, exact = self.data["muse"], self.data["exact"]
        rows = [[t, fixed(muse["o"][t][0]), fixed(exact["o"][t][0]), fixed(muse["o"][t][0] - exact["o"][t][0]),
                 fixed(muse["lse"][t]), fixed(exact["lse"][t]), fixed(muse["lse"][t] - exact["lse"][t])]
                for t in range(self.inputs["N"])]
        return table(["query", "$\\hat o$", "exact $o$", "difference", "$\\hat L$", "exact $L$", "difference"], rows,
                     right=range(1, 7))

    def make_error(self):
        muse, exact = self.data["muse"], self.data["exact"]
        gaps = [a[0] - b[0] for a, b in zip(muse["o"], exact["o"])]
        bias = sum(a - b for a, b in zip(muse["lse"], exact["lse"])) / len(gaps)
        error = self.data["rel_sq_err"]
        return table(["figure", "formula", "value"],
                     [["relative squared error", "(8.1)", f"{error:.1e}"],
                      ["its square root: errors relative to outputs", "", f"{100 * math.sqrt(error):.1f} %"],
                      ["largest absolute error, in tokens", "(8.2)", fixed(max(map(abs, gaps)))],
                      ["bias of the log-sum-exp", "(8.3)", fixed(bias)]], right=(2,))

    def generators(self):
        """Name in the page -> function. Names that end in a number are of that block."""
        found = {}
        for attribute in dir(self):
            if not attribute.startswith("make_"):
                continue
            name, make = "tour-" + attribute[len("make_"):], getattr(self, attribute)
            if attribute in ("make_kmeans", "make_clusters", "make_assignment", "make_shares", "make_summaries",
                             "make_masses", "make_parts"):
                for b in range(len(self.blocks)):
                    found[f"{name}-{b}"] = lambda make=make, b=b: make(b)
            else:
                found[name] = make
        return found


# ---- The walk through the viewer -----------------------------------------------------------------------------------


def wrapped(text):
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def within(x, y):
    """One block's part of another one's area, as a person says it."""
    parts = round(y / x)
    names = {2: "half of", 4: "a quarter of", 8: "an eighth of", 16: "a sixteenth of"}
    return f"{names.get(parts, f'1/{parts} of')} its area"


class ViewerWalk:
    """The paragraphs of docs/viewer.md that have numbers in them."""

    def __init__(self, data):
        self.data, self.heads = data, data["heads"]
        self.worst = next(head for head in self.heads if head["index"] == data["worst_head"])

    def make_heads(self):
        others = sorted((head for head in self.heads if head is not self.worst), key=lambda h: -h["rel_sq_err"])
        rest = " and ".join(significant(head["rel_sq_err"], 2) for head in others)
        far = " by far" if self.worst["rel_sq_err"] > 2 * others[0]["rel_sq_err"] else ""
        return wrapped(
            f"The strips below the curve have one row a head, with the error (8.1) of the head beside its name. "
            f"{self.worst['name'].capitalize()} errs most{far}: "
            f"{significant(self.worst['rel_sq_err'])} of the energy of its outputs, against {rest}. The first "
            f"{self.data['queries']['exact']} tokens have no error in any head: they lie in one diagonal block, which is "
            f"exact. *In the window:* layout “Where it errs” (Ctrl+1) opens with this picture; a click on a strip makes it "
            f"the current head.")

    def make_queries(self):
        q = self.data["queries"]
        rank = "the worst of all" if q["rank_of_selected"] == 1 else f"number {q['rank_of_selected']} of them"
        return wrapped(
            f"All along, but not evenly: the thin line, the worst query of each point, reaches 1 and more (so it is with "
            f"{q['above_one']} of {q['tokens']} queries), where the output has nothing to do with the true one. The table "
            f"names the worst. Query {q['selected']} has a relative squared error of {significant(q['selected_error'])} "
            f"(8.4), {rank}. *In the window:* a click on a row locks the query and zooms there; a click on a heading sorts.")

    def make_clusters(self):
        c, blamed = self.data["clusters"], self.data["clusters"]["blamed"]
        direction = "low" if blamed["bias"] < 0 else "high"
        return wrapped(
            f"The inspector follows the query through every stage. Its keys at level {c['level']}, tokens {c['key_begin']} to "
            f"{c['key_end']}, hold {significant(c['exact_share'], 2)} of its mass, but the approximation gives them "
            f"{significant(c['share'], 2)}. One key cluster is to blame: cluster {blamed['cluster']}, {blamed['keys']} keys, "
            f"holds {significant(blamed['exact_share'], 2)} of the exact mass, and its log-mass comes out "
            f"{significant(abs(blamed['bias']))} too {direction}: a factor of {c['factor']:.0f}. Such a cluster is *spread*: a "
            f"few of its keys match the query far better than its centroid says, and an expansion of first order (4.2) cannot "
            f"know that; the order `dipole_spread` (4.6) allows for it, on average over directions.")

    def make_blocks(self):
        blocks, up_to = self.data["blocks"], self.data["error_up_to"]
        area = lambda b: (b["query_end"] - b["query_begin"]) * (b["key_end"] - b["key_begin"])
        worst, second = sorted(blocks, key=lambda b: -b["share"])[:2]
        diagonal = significant(up_to["-1"], 2)
        return wrapped(
            f"Hatched blocks are exact. The others are clustered each by itself. The worst, queries {worst['query_begin']} to "
            f"{worst['query_end'] - 1} of level {worst['level']}, bears {significant(worst['share'], 2)} of the head's "
            f"{significant(self.worst['rel_sq_err'])} (8.6); the next, queries {second['query_begin']} to "
            f"{second['query_end'] - 1} of level {second['level']}, {significant(second['share'], 2)}, though it has "
            f"{within(area(second), area(worst))}. On the right, how the sum is built up: the diagonal blocks alone leave an "
            f"error of {diagonal}, each level brings it down. *In the window:* the space bar plays the levels one after the "
            f"other, with axes and colours held still.")

    def point(self, **wanted):
        for point in self.data["trade_off"]["points"]:
            if all(point[key] == value for key, value in wanted.items()):
                return point
        raise DocsError(f"the trade-off has no setting with {wanted}")

    def make_tradeoff(self):
        trade, r = self.data["trade_off"], self.data["compare"]["retrieve"]
        current = self.point(setting="muse")
        retrieved = self.point(setting=f"muse:retrieve={r}")
        tuned = self.point(tuned=True)
        more = 100 * (retrieved["operations_of_exact"] - current["operations_of_exact"])
        return wrapped(
            f"Each line goes through the current setting and changes one parameter. More clusters C (pink) help slowly and "
            f"cost much; retrieving r clusters exactly (blue) is the cheap way down: r = {r} brings the error from "
            f"{significant(current['error'])} to {significant(retrieved['error'], 2)} for {more:.0f} % more operations of "
            f"exact attention. The cross is the answer of `muse tune` for an error of at most {trade['max_error']:g}: "
            f"{significant(tuned['error'], 2)} at {100 * tuned['operations_of_exact']:.0f} % of the operations. *In the "
            f"window:* layout “What accuracy costs” (Ctrl+4); a click on a point makes it the current setting, and all views "
            f"follow.")

    def make_compare(self):
        compare, blamed = self.data["compare"], self.data["clusters"]["blamed"]
        a, b = compare["query_errors"]
        among = "is among those retrieved" if compare["blamed_retrieved"] else "is not among those retrieved"
        return wrapped(
            f"Two settings side by side. With r = {compare['retrieve']}, cluster {blamed['cluster']} {among}, and query "
            f"{self.data['queries']['selected']} goes from {significant(a)} to {significant(b, 2)}. *In the window:* A, B and "
            f"D show the slots and their difference; while F is held, the other slot.")

    def make_source(self):
        versions = self.data["versions"]
        return wrapped(f"The numbers on this page are those of `docs/results/viewer_walkthrough.json`: {versions['compiler']}, "
                       f"commit `{versions['commit']}`. `docs/viewer_walkthrough.py build/bin/muse-viewer --pictures` makes "
                       f"them and the pictures anew, `docs/make_docs.py` writes them into the page.")

    def generators(self):
        return {"viewer-" + name[len("make_"):]: getattr(self, name) for name in dir(self) if name.startswith("make_")}


# ---- Pages ---------------------------------------------------------------------------------------------------------

SOURCES = {"compare": "docs/results/reference_compare.json", "bench": "docs/results/bench_reference.json",
           "side-by-side": "docs/results/side_by_side_h100.json", "tour": "tests/example16.json",
           "viewer": "docs/results/viewer_walkthrough.json",
           "gpu-ladder": "docs/results/side_by_side_h100_first.json"}
MADE_BY = {"compare": "build/bin/muse compare … --json", "bench": "build/bin/bench_reference … --json",
           "side-by-side": "cuda/bench/side_by_side.py … --json", "tour": "tests/example16.py",
           "viewer": "docs/viewer_walkthrough.py build/bin/muse-viewer",
           "gpu-ladder": "cuda/bench/side_by_side.py … --json"}


class Blocks:
    """Text of the generated blocks by name; reads each JSON file once, when it is first asked for."""

    def __init__(self):
        self.cache = {}

    def load(self, kind):
        if kind not in self.cache:
            path = ROOT / SOURCES[kind]
            try:
                self.cache[kind] = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise DocsError(f"{SOURCES[kind]} is missing; write it with: {MADE_BY[kind]}") from None
            except (OSError, ValueError) as error:
                raise DocsError(f"{SOURCES[kind]} cannot be read as JSON: {error}") from None
        return self.cache[kind]

    def text(self, name, where):
        kind = name.split("-")[0] if name.startswith(("tour-", "viewer-")) else name
        if kind not in SOURCES:
            raise DocsError(f"{where}: no block is called '{name}'; there are compare, bench, side-by-side, gpu-ladder, "
                            f"tour-… and viewer-…")
        data = self.load(kind)
        try:
            if kind == "compare":
                return make_compare(data)
            if kind == "bench":
                return make_bench(data)
            if kind == "side-by-side":
                return make_side_by_side(data)
            if kind == "gpu-ladder":
                return make_gpu_ladder(data, self.load("side-by-side"))
            generators = (Tour if kind == "tour" else ViewerWalk)(data).generators()
        except DocsError as error:
            raise DocsError(f"{SOURCES[kind]}: {error}") from None
        except (KeyError, IndexError, TypeError) as error:
            raise DocsError(f"{SOURCES[kind]}: something is missing or misshapen: {error!r}; "
                            f"write it again with: {MADE_BY[kind]}") from None
        if name not in generators:
            raise DocsError(f"{where}: no block is called '{name}'; of {kind}-… there are {listed(sorted(generators))}")
        try:
            return generators[name]()
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DocsError(f"{SOURCES[kind]}: something is missing or misshapen: {error!r}; "
                            f"write it again with: {MADE_BY[kind]}") from None


def rewrite(page, text, blocks):
    """The page with its blocks made anew, and the names of those that changed."""
    lines, changed = [], []
    name, opened, inside = None, 0, []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        begin, end = BEGIN.fullmatch(line), END.fullmatch(line)
        if begin and name is not None:
            raise DocsError(f"{page}:{number}: block '{begin[1]}' begins inside block '{name}' of line {opened}")
        if end and end[1] != name:
            raise DocsError(f"{page}:{number}: block '{end[1]}' ends here but was not open")
        if begin:
            name, opened, inside = begin[1], number, []
            lines.append(line)
        elif end:
            fresh = "\n" + blocks.text(name, f"{page}:{opened}") + "\n\n"
            if fresh != "".join(inside):
                changed.append(name)
            lines += [fresh, line]
            name = None
        else:
            (lines if name is None else inside).append(line)
    if name is not None:
        raise DocsError(f"{page}:{opened}: block '{name}' does not end: add <!-- end generated: {name} -->")
    return "".join(lines), changed


def main():
    parser = argparse.ArgumentParser(
        description="Puts the numbers of committed JSON files into README.md and docs/*.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is stale")
    check = parser.parse_args().check
    blocks, stale = Blocks(), 0
    for path in [path for path in [ROOT / "README.md"] if path.exists()] + sorted((ROOT / "docs").glob("*.md")):
        page = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        fresh, changed = rewrite(page, text, blocks)
        if not changed:
            continue
        if check:
            stale += 1
            print(f"{page} is stale: {listed(changed)} differ from the JSON; run docs/make_docs.py")
        else:
            path.write_text(fresh, encoding="utf-8")
            print(f"{page}: {listed(changed)} written")
    return 1 if stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DocsError as problem:
        print(f"make_docs.py: {problem}", file=sys.stderr)
        sys.exit(1)
