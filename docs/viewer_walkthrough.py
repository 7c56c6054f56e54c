#!/usr/bin/env python3
"""Writes the numbers of docs/viewer.md: exports of muse-viewer, as the page's commands make them.

docs/viewer_walkthrough.py MUSE_VIEWER [--json docs/results/viewer_walkthrough.json] [--pictures]

--pictures also runs the commands of the page that make its pictures: `--export` ones, and with a display (or under
xvfb-run) `--screenshot` ones. Run it in the root of the repository. docs/make_docs.py puts the numbers into the page.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "viewer.md"
DUMP = "notebooks_data/source16k_slice"
MAX_ERROR = 0.05  # that of --max-error, for the answer of muse tune
RETRIEVE = 8      # r of slot B


class Viewer:
    """Runs exports of the page's dump, and notes their commands."""

    def __init__(self, program, folder):
        self.program, self.folder, self.commands = os.path.abspath(program), pathlib.Path(folder), []

    def rows(self, *args):
        path = self.folder / "export.csv"
        command = ["muse-viewer", DUMP, *map(str, args)]
        subprocess.run([self.program, *command[1:], "--export", path], cwd=ROOT, check=True)
        self.commands.append(shlex.join([*command, "--export", "FILE.csv"]))
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def inspector(self, *args):
        return {row.pop("quantity"): row for row in self.rows("--view", "inspector", *args)}

    def version(self):
        """{"commit": …, "compiler": …} as --version prints it."""
        lines = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()
        return {"version": lines[0], **dict(line.split(None, 1) for line in lines[1:] if len(line.split(None, 1)) == 2)}


def walk(viewer):
    numbers = {}
    meta = json.loads((ROOT / DUMP / "meta.json").read_text(encoding="utf-8"))

    # Which head errs most?
    heads = []
    for head, names in enumerate(meta["heads"]):
        value = float(viewer.inspector("--head", head)["The head: relative squared error"]["value"])
        heads.append({"index": head, "name": f"layer {names['layer']} head {names['head']}", "rel_sq_err": value})
    worst_head = max(heads, key=lambda head: head["rel_sq_err"])
    numbers["heads"], numbers["worst_head"] = heads, worst_head["index"]
    h = ["--head", worst_head["index"]]

    # On which queries? The page follows the one that its commands select.
    errors = [float(row["relative"]) for row in viewer.rows("--view", "error", *h)]
    first = next(query for query, error in enumerate(errors) if error > 0)
    page_query = int(re.search(r"--select (\d+)", PAGE.read_text(encoding="utf-8"))[1])
    numbers["queries"] = {
        "tokens": len(errors), "exact": first, "largest": max(errors), "selected": page_query,
        "selected_error": errors[page_query], "rank_of_selected": 1 + sum(e > errors[page_query] for e in errors),
        "above_one": sum(error >= 1 for error in errors)}

    # Because of which clusters? What the inspector says of the selected query.
    rows = viewer.inspector(*h, "--select", page_query)
    value = lambda name: float(rows[name]["value"])
    levels = {}
    for name in rows:
        found = re.fullmatch(r"(Level (\d+), S = \d+, keys (\d+)…(\d+)):   exact share", name)
        if found:
            levels[found[1]] = {"level": int(found[2]), "key_begin": int(found[3]), "key_end": int(found[4]),
                                "exact_share": value(name), "share": value(f"{found[1]}: share of the mass")}
    section, level = max(levels.items(), key=lambda item: item[1]["exact_share"])
    clusters = []
    for name in rows:
        found = re.fullmatch(re.escape(section) + r": key cluster (\d+): keys", name)
        if found:
            j = found[1]
            clusters.append({"cluster": int(j), "keys": int(value(name)),
                             "exact_share": value(f"{section}:   exact share of mass, key cluster {j}"),
                             "bias": value(f"{section}:   ℓ − exact log-mass, key cluster {j}")})
    blamed = max(clusters, key=lambda cluster: cluster["exact_share"])
    numbers["clusters"] = {**level, "blamed": blamed, "factor": math.exp(-blamed["bias"])}

    # In which block of the hierarchy?
    blocks = []
    for row in viewer.rows("--view", "blocks", *h):
        block = {key: int(row[key]) for key in ("level", "query_begin", "query_end", "key_begin", "key_end")}
        block["share"] = float(row["share"])
        blocks.append(block)
        numbers.setdefault("error_up_to", {})[row["level"]] = float(row["error_up_to_level"])
    numbers["blocks"] = [block for block in blocks if block["level"] >= 0]

    # What do C and r change?
    points = viewer.rows("--view", "tradeoff", *h, "--max-error", MAX_ERROR)
    numbers["trade_off"] = {"max_error": MAX_ERROR, "points": [
        {"setting": row["setting"], "error": float(row["error"]), "operations_of_exact": float(row["operations_of_exact"]),
         "tuned": row["tuned"] == "1"} for row in points]}

    # Two settings side by side.
    both = viewer.inspector(*h, "--select", page_query, "--compare", f"muse,muse:retrieve={RETRIEVE}")
    numbers["compare"] = {
        "retrieve": RETRIEVE,
        "query_errors": [float(both["The query: relative squared error"][slot]) for slot in "AB"],
        "blamed_retrieved": float(
            both[f"{section}:   retrieved (1) or not (0), key cluster {blamed['cluster']}"]["B"]) == 1}
    return numbers


def make_pictures(program):
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words or pathlib.PurePosixPath(words[0]).name != "muse-viewer":
                continue
            kind = next((word for word in ("--export", "--screenshot") if word in words), None)
            if kind is None:
                continue
            if kind == "--screenshot" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
                print(f"no display: left out {shlex.join(words)}", file=sys.stderr)
                continue
            print(shlex.join(words))
            subprocess.run([os.path.abspath(program), *words[1:]], cwd=ROOT, check=True)


def main():
    parser = argparse.ArgumentParser(description="Writes the numbers of docs/viewer.md.")
    parser.add_argument("viewer", help="the built muse-viewer")
    parser.add_argument("--json", default=str(ROOT / "docs/results/viewer_walkthrough.json"))
    parser.add_argument("--pictures", action="store_true", help="also make the pictures of the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        viewer = Viewer(options.viewer, folder)
        numbers = walk(viewer)
        result = {"versions": viewer.version(), "dump": DUMP, "commands": viewer.commands, **numbers}
    pathlib.Path(options.json).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.pictures:
        make_pictures(options.viewer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
