#!/usr/bin/env python3
"""Drives a real window of muse-viewer as a person would: keys, clicks, wheel and drags by xdotool under Xvfb. What is
aimed at, and what is checked, comes from --state-json: no pixels are guessed. Nothing waits for a fixed time: after each
key and click, until the window says that it has taken it; after that, until what is expected is shown.

test_viewer_window.py MUSE_VIEWER [--shots FOLDER] [unittest arguments]

With --shots, a picture of every layout and of some states is left in FOLDER, for a person to look at.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

for tool in ("Xvfb", "xdotool"):
    if shutil.which(tool) is None:
        print(f"skipped: {tool} is missing")
        sys.exit(77)
try:
    import numpy as np
except ImportError:
    print("skipped: numpy is missing")
    sys.exit(77)

VIEWER = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "muse-viewer"
SHOTS = None
if "--shots" in sys.argv:
    at = sys.argv.index("--shots")
    SHOTS = pathlib.Path(sys.argv[at + 1]).absolute()
    SHOTS.mkdir(parents=True, exist_ok=True)
    del sys.argv[at:at + 2]
SLICE = pathlib.Path(__file__).absolute().parent.parent / "notebooks_data" / "source16k_slice"
WORK = tempfile.TemporaryDirectory(prefix="muse-viewer-window-")
ROOT = pathlib.Path(WORK.name)
PATIENCE = float(os.environ.get("MUSE_TEST_PATIENCE", "60"))  # seconds; a window that works answers within one
SIZE = (1300, 860)
SMALL = ["--block", "64", "--clusters", "8"]


def small_dump(name, n=512, d=16):
    """Three heads in two layers, with tokens that have directions in common, so that clusters mean something."""
    random = np.random.default_rng(3)
    folder = ROOT / name
    folder.mkdir()
    topics = 2.5 * random.standard_normal((3, 12, d))
    of_token = random.integers(0, 12, n)
    for key in ("q", "k", "v"):
        values = topics[:, of_token] + random.standard_normal((3, n, d))
        np.save(folder / f"{key}.npy", values.astype(np.float32))
    heads = [{"layer": 0, "head": 0}, {"layer": 0, "head": 1}, {"layer": 1, "head": 0}]
    (folder / "meta.json").write_text(json.dumps({"format": "muse-dump/1", "heads": heads, "causal": True}))
    return folder


class Display:
    """A screen of our own."""

    def __init__(self):
        read, write = os.pipe()
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"],
            pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write)
        number = b""
        while not number.endswith(b"\n"):
            more = os.read(read, 16)
            if not more:
                raise RuntimeError("Xvfb did not start")
            number += more
        os.close(read)
        self.name = ":" + number.decode().strip()

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Window:
    """A running viewer."""
    count = 0

    def __init__(self, *args, size=SIZE):
        Window.count += 1
        self.folder = ROOT / f"run{Window.count}"
        self.folder.mkdir()
        (self.folder / "cwd").mkdir()
        self.state_file = self.folder / "state.json"
        self.env = {**os.environ, "DISPLAY": DISPLAY.name, "XDG_CONFIG_HOME": str(self.folder / "config")}
        self.sent = {"keys": 0, "clicks": 0, "notches": 0}
        self.log = open(self.folder / "stderr.txt", "w+")
        command = [VIEWER, *map(str, args), "--state-json", str(self.state_file)]
        if size:
            command += ["--size", f"{size[0]}x{size[1]}"]
        self.process = subprocess.Popen(command, env=self.env, cwd=self.folder / "cwd", stderr=self.log)
        self.wait(lambda s: True, "the first state")
        self.id = self.xdotool("search", "--sync", "--onlyvisible", "--pid", self.process.pid).split()[0]
        self.xdotool("windowmove", self.id, 0, 0, "windowfocus", "--sync", self.id)

    def xdotool(self, *args):
        return subprocess.run(["xdotool", *map(str, args)], env=self.env, check=True, capture_output=True, text=True,
                              timeout=PATIENCE).stdout

    def state(self):
        return json.loads(self.state_file.read_text())

    def wait(self, test, what, patience=PATIENCE):
        """The first state for which test(state) holds."""
        end = time.monotonic() + patience
        last = None
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(f"the window closed ({self.process.returncode}) before: {what}\n{self.log.read()}")
            try:
                last = self.state()
                if test(last):
                    return last
            except (FileNotFoundError, KeyError, IndexError, TypeError):
                pass
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for: {what}\n{json.dumps(last)[:6000]}")

    def ready(self, what="everything computed and drawn"):
        return self.wait(lambda s: s["ready"] and s["dump"], what)

    # The mouse and the keyboard. Each returns once a frame has taken what was sent.
    def send(self, *args, keys=0, clicks=0, notches=0, pointer=None):
        for name, count in (("keys", keys), ("clicks", clicks), ("notches", notches)):
            self.sent[name] += count
        self.xdotool(*args)
        self.wait(lambda s: all(s["input"][name] >= count for name, count in self.sent.items())
                  and (pointer is None or s["input"]["pointer"] == list(pointer)), f"taken: {args}")

    def move(self, x, y):
        x, y = round(x), round(y)
        self.send("mousemove", "--window", self.id, x, y, pointer=(x, y))

    def click(self, x, y, repeat=1):
        x, y = round(x), round(y)
        self.send("mousemove", "--window", self.id, x, y, "click", "--repeat", repeat, "--delay", 20, 1, clicks=repeat,
                  pointer=(x, y))

    def wheel(self, x, y, notches, button=4):
        x, y = round(x), round(y)
        self.send("mousemove", "--window", self.id, x, y, "click", "--repeat", notches, "--delay", 4, button,
                  notches=notches, pointer=(x, y))

    def press(self, name):
        """Clicks a control by its name. A dialog that opens moves at first: the pointer follows."""
        place = None
        while True:
            state = self.wait(lambda s: name in s["controls"], f"the control {name}")
            if state["controls"][name] == place:
                break
            place = state["controls"][name]
            x, y = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
            self.move(x, y)
        self.click(x, y)

    def key(self, *keys):
        self.send("key", "--delay", 4, *keys, keys=len(keys))

    def type_over(self, name, text):
        """Replaces what a text field holds, and enters it."""
        self.press(name)
        self.wait(lambda s: s["input"]["typed_into"] == name, f"the keyboard in {name}")
        text = str(text)
        self.send("key", "ctrl+a", "type", "--args", 1, "--delay", 4, text, "key", "Return", keys=len(text) + 2)

    def drag(self, start, end):
        start, end = [tuple(map(round, place)) for place in (start, end)]
        half = [(a + b) // 2 for a, b in zip(start, end)]
        self.send("mousemove", "--window", self.id, *start, "mousedown", 1, "mousemove", "--window", self.id, *half,
                  "mousemove", "--window", self.id, *end, "mouseup", 1, clicks=1, pointer=end)

    def shot(self, name):
        if SHOTS and shutil.which("import"):
            subprocess.run(["import", "-window", "root", "-crop", f"{SIZE[0]}x{SIZE[1]}+0+0", str(SHOTS / f"{name}.png")],
                           env=self.env, check=False)

    def close(self, patience=PATIENCE):
        """Ctrl+Q; the exit status."""
        if self.process.poll() is None:
            self.xdotool("key", "ctrl+q")
        status = self.process.wait(patience)
        self.log.seek(0)
        return status, self.log.read()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def panel_of(state, view):
    return next(p for p in state["panels"] if p["view"] == view and p["visible"])


def inside(panel, across=0.5, down=0.5, frame=0):
    """A point of a plot: parts of its frame."""
    x0, y0, x1, y1 = panel["shown"]["frames"][frame]["box"]
    return x0 + across * (x1 - x0), y0 + down * (y1 - y0)


def text_of(panel):
    return " ".join([*panel["shown"]["texts"], panel["shown"]["caption"]])


class OneWindow(unittest.TestCase):
    """What a person does in one sitting, each step from a known state."""

    @classmethod
    def setUpClass(cls):
        cls.dump = small_dump("dump")
        cls.w = Window(cls.dump, *SMALL, "--layout", "errors")

    @classmethod
    def tearDownClass(cls):
        frames = cls.w.state()["frames"]
        status, log = cls.w.close()
        cls.w.end()
        print(f"frames: {frames}", file=sys.stderr)
        assert status == 0, f"exit status {status}\n{log}"
        left = list((cls.w.folder / "cwd").iterdir())
        assert not left, f"left in the working directory: {left}"
        kept = json.loads((cls.w.folder / "config" / "muse" / "viewer.json").read_text())
        assert str(cls.dump) in kept["recent"], kept

    def setUp(self):
        # Nothing is selected, the keyboard is in no field, and slot A is shown by the layout "errors".
        self.w.move(5, 855)
        self.w.key("Escape", "Escape", "Escape", "ctrl+1", "a")
        self.state = self.w.wait(
            lambda s: s["layout"] == "errors" and s["shown"] == "a" and not s["selection"]["locked"]
            and not s["selection"]["filter"] and not s["dialogs"]["help"] and not s["dialogs"]["messages"]
            and not s["dialogs"]["open"] and not s["dialogs"]["export"] and s["ready"], "a known state")

    def test_01_pointing_previews_and_a_click_locks_in_every_view(self):
        w = self.w
        error = panel_of(self.state, "error")
        w.move(*inside(error, 0.7))
        state = w.wait(lambda s: "query" in s["selection"]["hovered"] and s["readout"], "something under the pointer")
        query = state["selection"]["hovered"]["query"]
        self.assertLess(abs(query - 0.7 * 512), 40)
        w.wait(lambda s: all(p["shown"]["selection"]["shown"].get("query") == query for p in s["panels"] if p["visible"]),
               "all views follow the pointer")
        w.click(*inside(error, 0.7))
        w.wait(lambda s: s["selection"]["locked"], "a click locks")
        # The pointer elsewhere: what is locked stays, in every view.
        w.move(*inside(error, 0.2))
        state = w.wait(lambda s: s["selection"]["hovered"].get("query", query) != query, "the pointer elsewhere")
        query = state["selection"]["locked"]["query"]
        state = w.wait(lambda s: s["ready"] and f"{query}" in text_of(panel_of(s, "profile")), "the profile follows")
        self.assertIn(f"{query}", text_of(panel_of(state, "inspector")))
        w.shot("errors_locked")
        w.key("Escape")
        w.wait(lambda s: s["selection"]["locked"] is None, "Esc unlocks")

    def test_02_keys_lock_the_next_query_and_a_number_any(self):
        w = self.w
        w.type_over("query", 300)
        w.wait(lambda s: s["selection"]["locked"] == {"query": 300}, "a number locks")
        w.wait(lambda s: not s["input"]["typed_into"], "Enter leaves the field")
        w.key("Right", "Right", "Left")
        w.wait(lambda s: s["selection"]["locked"] == {"query": 301}, "arrows step")
        # Typed as fast as it comes: G opens the field, the digits go into it.
        w.send("key", "--delay", 2, "g", "1", "2", "3", "Return", keys=5)
        w.wait(lambda s: s["selection"]["locked"] == {"query": 123}, "a number after G locks")

    def test_03_the_wheel_zooms_at_the_cursor_and_a_double_click_fits(self):
        w = self.w
        place = inside(panel_of(self.state, "blocks"), 0.25, 0.75)
        w.wheel(*place, 1)
        state = w.wait(lambda s: s["ready"] and panel_of(s, "blocks")["shown"]["zoom"], "zoomed in")
        zoom = panel_of(state, "blocks")["shown"]["zoom"]
        # What was under the cursor is where it was.
        # The plot itself keeps its place and shape: only what it shows changes.
        before, after = (panel_of(s, "blocks")["shown"]["frames"][0]["box"] for s in (self.state, state))
        for edge in range(4):
            self.assertAlmostEqual(before[edge], after[edge], delta=4)
        for axis, part in (("x", 0.25), ("y", 0.75)):
            low, high = zoom[axis]
            self.assertAlmostEqual(high - low, 0.8 * 512, delta=1)
            self.assertAlmostEqual((part * 512 - low) / (high - low), part, delta=0.02)
        w.wheel(*place, 3)
        state = w.wait(lambda s: s["ready"] and panel_of(s, "blocks")["shown"]["zoom"]["x"][1]
                       - panel_of(s, "blocks")["shown"]["zoom"]["x"][0] < 300, "zoomed in further")
        zoom = panel_of(state, "blocks")["shown"]["zoom"]
        # A drag moves what is seen along with the pointer.
        w.drag(place, (place[0] + 60, place[1]))
        state = w.wait(lambda s: s["ready"] and panel_of(s, "blocks")["shown"]["zoom"]["x"][0] < zoom["x"][0], "moved")
        self.assertEqual(state["selection"]["locked"], None)
        w.shot("blocks_zoomed")
        # On a busy machine two clicks may come too late to be one double click: like a person, try again.
        for _ in range(20):
            w.click(*place, repeat=2)
            if panel_of(w.state(), "blocks")["zoom"] is None:
                break
        w.wait(lambda s: panel_of(s, "blocks")["zoom"] is None and s["ready"], "everything is seen again")

    def test_04_heads_and_layers_by_keys_and_by_clicks(self):
        w = self.w
        w.key("bracketright")
        w.wait(lambda s: s["slots"][0]["head"] == 1 and s["ready"] and "layer 0 head 1" in text_of(panel_of(s, "error")),
               "the next head, in the picture")
        w.press("layer.next")
        w.wait(lambda s: s["slots"][0]["head"] == 2 and s["slots"][1]["head"] == 2, "the next layer, both slots")
        w.key("Page_Up", "bracketleft")
        w.wait(lambda s: s["slots"][0]["head"] == 0, "back")

    def test_05_parameters_are_live(self):
        w = self.w
        before = text_of(panel_of(self.state, "inspector"))
        w.press("clusters.half")
        state = w.wait(lambda s: s["slots"][0]["options"]["clusters-q"] == "4", "half as many clusters")
        self.assertEqual(state["slots"][0]["options"]["clusters-k"], "4")
        self.assertEqual(state["slots"][1]["options"]["clusters-k"], "8")
        w.wait(lambda s: s["ready"] and text_of(panel_of(s, "inspector")) != before, "other numbers")
        w.press("clusters.double")
        w.type_over("slot.retrieve", "2")
        w.wait(lambda s: s["slots"][0]["options"]["retrieve"] == "2" and s["ready"]
               and "retrieve=2" in text_of(panel_of(s, "error")), "r in the picture")
        # What makes no sense is explained, and changes nothing.
        w.type_over("slot.retrieve", "many")
        state = w.wait(lambda s: s["dialogs"]["messages"], "a dialog")
        self.assertIn("expected", state["dialogs"]["messages"][0]["text"])
        w.key("Return")
        w.wait(lambda s: not s["dialogs"]["messages"] and s["slots"][0]["options"]["retrieve"] == "2", "nothing lost")
        w.type_over("slot.retrieve", "0")
        w.wait(lambda s: s["slots"][0]["options"]["retrieve"] == "0", "back")

    def test_05b_the_device_is_a_control(self):
        w = self.w
        state = w.wait(lambda s: s["gpu_problem"] is not None, "whether there is a GPU")
        w.press("slot.device")
        w.wait(lambda s: "slot.device=cuda" in s["controls"], "the list of devices")
        w.press("slot.device=cuda")
        if state["gpu_problem"]:
            w.shot("device")
            # It cannot be chosen; the list stays for another choice.
            self.assertEqual(w.state()["slots"][0]["device"], "cpu")
            w.press("slot.device=cpu")
        else:
            state = w.wait(lambda s: s["slots"][0]["device"] == "cuda" and s["ready"], "computed on the GPU")
            self.assertEqual(state["slots"][0]["dtype"], "bfloat16")
            self.assertIn("on the GPU", text_of(panel_of(state, "error")))
            w.press("slot.device")
            w.press("slot.device=cpu")
        w.wait(lambda s: s["slots"][0]["device"] == "cpu" and "slot.device=cpu" not in s["controls"] and s["ready"], "back")
        w.press("slot.dtype")
        w.press("slot.dtype=double")
        w.wait(lambda s: s["slots"][0]["dtype"] == "double" and s["ready"]
               and "dtype=double" in text_of(panel_of(s, "error")), "in double, in the picture")
        w.press("slot.dtype")
        w.press("slot.dtype=float")
        w.wait(lambda s: s["slots"][0]["dtype"] == "float" and s["ready"], "in float")

    def test_05c_tables_scroll(self):
        w = self.w
        w.key("ctrl+1")
        w.type_over("query", 300)
        state = w.wait(lambda s: s["selection"]["locked"] == {"query": 300} and s["ready"], "a query with many numbers")
        number = next(i for i, p in enumerate(state["panels"]) if p["view"] == "inspector") + 1
        texts = lambda s: panel_of(s, "inspector")["shown"]["texts"]
        first = texts(state)
        def scrolled(what):
            now = w.wait(lambda s: s["ready"] and texts(s) != first, what)
            self.assertEqual(now["selection"]["locked"], {"query": 300}, what)
            return now
        place = inside(panel_of(state, "inspector"), 0.4, 0.5)
        w.wheel(*place, 2, button=5)
        state = scrolled("the wheel scrolls")
        w.shot("inspector_scrolled")
        # Up again, and no further.
        w.wheel(*place, 5)
        w.wait(lambda s: s["ready"] and texts(s) == first, "the first rows again")
        # The last line leads to the rows that it stands for, and locks none of them.
        w.press(f"panel{number}.more_rows")
        scrolled("other rows by a click on the last line")
        x0, y0, x1, y1 = w.state()["controls"][f"panel{number}.scroll_bar"]
        w.drag(((x0 + x1) / 2, y0 + 20), ((x0 + x1) / 2, y1 + 30))
        state = w.wait(lambda s: s["ready"] and "▴ back to the first row" in texts(s), "the bar leads to the end")
        w.press(f"panel{number}.more_rows")
        w.wait(lambda s: s["ready"] and texts(s) == first, "back to the first row")

    def test_06_levels_are_played(self):
        w = self.w
        number = next(i for i, p in enumerate(self.state["panels"]) if p["view"] == "blocks") + 1
        w.press(f"panel{number}.play")
        w.wait(lambda s: s["played"][:2] == [-1, 0], "the diagonal, then level 0")
        w.shot("blocks_level0")
        # Each is seen, however slowly this machine looks on.
        w.wait(lambda s: not s["playing"] and s["played"] == [-1, 0, 1, 2]
               and "up-to-level" not in panel_of(s, "blocks")["options"], "all levels")

    def test_07_slots_compared_and_flipped(self):
        w = self.w
        w.key("b")
        w.wait(lambda s: s["shown"] == "b" and s["ready"] and "retrieve=8" in text_of(panel_of(s, "error")), "slot B")
        w.key("d")
        w.wait(lambda s: s["shown"] == "both" and s["ready"] and "B" in text_of(panel_of(s, "error")), "both")
        w.shot("compared")
        w.key("a")
        w.wait(lambda s: s["shown"] == "a" and s["ready"], "slot A")
        w.send("keydown", "f", keys=1)
        w.wait(lambda s: s["flipped"] and "retrieve=8" in text_of(panel_of(s, "error")), "B while F is held")
        w.send("keyup", "f")
        w.wait(lambda s: not s["flipped"] and "retrieve=8" not in text_of(panel_of(s, "error")), "A again")

    def test_08_maps_zoom_together_on_request(self):
        w = self.w
        w.key("ctrl+3")
        state = w.wait(lambda s: s["layout"] == "maps" and s["ready"], "the maps")
        w.shot("maps")
        w.move(*inside(state["panels"][0], 0.3, 0.8))
        w.wait(lambda s: "key" in s["selection"]["hovered"], "a cell of the map")
        w.press("zoom.lock")
        w.wheel(*inside(state["panels"][0], 0.3, 0.8), 6)
        w.wait(lambda s: s["ready"] and s["zoom_locked"] and s["panels"][3]["shown"]["zoom"]
               and all(p["shown"]["zoom"] == s["panels"][0]["zoom"] for p in s["panels"]), "the same zoom in all")
        w.shot("maps_zoomed")
        w.key("l")
        w.wait(lambda s: not s["zoom_locked"], "each on its own")

    def test_09_a_range_of_the_histogram_filters(self):
        w = self.w
        w.key("ctrl+4")
        state = w.wait(lambda s: s["layout"] == "cost" and panel_of(s, "histogram")["current"], "the histogram")
        histogram = panel_of(state, "histogram")
        w.drag(inside(histogram, 0.4), inside(histogram, 0.8))
        w.wait(lambda s: s["selection"]["filter"] and panel_of(s, "error")["shown"]["selection"]["filter"], "a range")
        w.shot("filtered")
        w.key("Escape")
        w.wait(lambda s: s["selection"]["filter"] is None, "Esc drops it")

    def test_10_a_point_of_the_trade_off_becomes_the_setting(self):
        w = self.w
        before = self.state["slots"][0]["word"]
        w.key("ctrl+4")
        w.wait(lambda s: s["layout"] == "cost" and panel_of(s, "tradeoff")["current"], "the trade-off")
        w.shot("cost")
        # Alone it has room for its table: a row is a setting.
        w.press("panel1.maximise")
        state = w.wait(lambda s: s["maximised"] and panel_of(s, "tradeoff")["current"]
                       and len(panel_of(s, "tradeoff")["shown"]["frames"]) == 2, "the table of settings")
        table = panel_of(state, "tradeoff")["shown"]["frames"][1]
        rows = table["y"]["at_end"]
        for row in range(3):
            place = inside(panel_of(state, "tradeoff"), 0.3, 0, frame=1)
            top, bottom = table["box"][1], table["box"][3]
            w.move(place[0], bottom - (bottom - top) * (rows - row - 0.5) / (rows - table["y"]["at_begin"]))
            state = w.wait(lambda s: "point" in s["selection"]["hovered"], f"the setting of row {row}")
            if before not in state["readout"]:
                break
        word = state["readout"].split(": ", 1)[1].split(": error")[0]
        w.send("click", 1, clicks=1)
        w.wait(lambda s: s["slots"][0]["word"] == word and s["notice"], f"the point's setting: {word}")
        w.press("slot.reset")
        for option, value in (("block", 64), ("clusters-q", 8), ("clusters-k", 8)):
            w.type_over(f"slot.{option}", value)
        w.wait(lambda s: s["slots"][0]["word"] == before, "the setting of before")
        w.key("m")

    def test_11_export_writes_the_same_pixels_as_the_command(self):
        w = self.w
        path, other = ROOT / "window.png", ROOT / "command.png"
        w.click(*inside(panel_of(self.state, "profile"), 0.5, 1.2))  # focused by a click beside the curves
        w.move(5, 855)
        w.key("ctrl+e")
        w.wait(lambda s: s["dialogs"]["export"], "the dialog")
        w.shot("export")
        w.type_over("export.path", path)
        state = w.wait(lambda s: str(path) in s["notice"] and s["ready"], "the file")
        x0, y0, x1, y1 = panel_of(state, "profile")["picture"]
        subprocess.run([VIEWER, self.dump, *SMALL, "--view", "profile", "--export", other, "--size",
                        f"{x1 - x0}x{y1 - y0}"], check=True, timeout=PATIENCE)
        self.assertEqual(path.read_bytes(), other.read_bytes())
        # A folder that is not there: what to do is said.
        w.key("ctrl+e")
        w.wait(lambda s: s["dialogs"]["export"], "the dialog")
        w.type_over("export.path", ROOT / "nowhere" / "x.png")
        state = w.wait(lambda s: s["dialogs"]["messages"], "a message")
        self.assertIn("folder", state["dialogs"]["messages"][0]["text"])
        w.key("Return")
        w.wait(lambda s: not s["dialogs"]["messages"], "read")

    def test_12_a_broken_file_loses_nothing(self):
        w = self.w
        broken = small_dump("broken")
        (broken / "q.npy").write_bytes((broken / "q.npy").read_bytes()[:500])
        w.key("ctrl+o")
        w.wait(lambda s: s["dialogs"]["open"], "the dialog")
        w.type_over("open.path", broken)
        state = w.wait(lambda s: s["dialogs"]["messages"], "a message")
        w.shot("broken")
        self.assertIn("q.npy", state["dialogs"]["messages"][0]["text"])
        w.key("Return")
        state = w.wait(lambda s: not s["dialogs"]["messages"] and s["ready"], "read")
        self.assertEqual(state["dump"]["path"], str(self.dump))
        self.assertNotIn(str(broken), state["recent"])

    def test_12b_the_open_dialog_says_what_is_there_and_leads_to_it(self):
        w = self.w
        folder = ROOT / "a folder of dumps with quite a long name" / "and another one in it"
        folder.mkdir(parents=True)
        shutil.copytree(self.dump, folder / "inner")
        (folder / "notes.txt").write_text("no dump")
        w.key("ctrl+o")
        w.wait(lambda s: s["dialogs"]["open"], "the dialog")
        look = lambda s: s["dialogs"]["path"]
        w.wait(lambda s: "dump" in look(s)["words"], "the path of last time")
        w.shot("open")
        # Nothing there: it is said, and the dialog stays.
        w.type_over("open.path", folder / "nothing")
        state = w.wait(lambda s: look(s)["typed"] == str(folder / "nothing") and s["dialogs"]["open"], "looked at")
        self.assertEqual(look(state)["words"], "Nothing is there.")
        w.shot("open_nothing")
        w.type_over("open.path", folder / "notes.txt")
        w.wait(lambda s: "no dump" in look(s)["words"] and s["dialogs"]["open"], "a file that is no dump")
        # From folder to folder to the dump, by clicks.
        w.type_over("open.path", folder.parent)
        w.wait(lambda s: look(s)["entries"] == [folder.name] and s["dialogs"]["open"], "what is in the folder")
        w.press(f"open.entry={folder.name}")
        w.wait(lambda s: look(s)["entries"] == ["inner"], "a folder further")
        w.shot("open_folder")
        w.press("open.up")
        w.wait(lambda s: look(s)["entries"] == [folder.name], "and back")
        w.press(f"open.entry={folder.name}")
        w.wait(lambda s: look(s)["entries"] == ["inner"], "again")
        w.press("open.entry=inner")
        w.wait(lambda s: s["dump"]["path"] == str(folder / "inner") and not s["dialogs"]["open"] and s["ready"], "the dump")
        w.key("ctrl+o")
        w.press("open.recent=1")
        w.wait(lambda s: s["dump"]["path"] == str(self.dump) and s["ready"], "the first one")

    def test_13_resized_and_minimised(self):
        w = self.w
        for width, height in ((500, 360), (330, 250), (1500, 900), SIZE):
            w.xdotool("windowsize", w.id, width, height)
            state = w.wait(lambda s: s["window"]["width"] == width and s["ready"]
                           and all(p["current"] or p["failure"] for p in s["panels"] if p["visible"]),
                           f"{width} by {height}")
            # The toolbar wraps: nothing of it is cut off.
            for name in ("open", "export", "head.next", "show.both", "layout", "minimap", "help"):
                x0, y0, x1, y1 = state["controls"][name]
                self.assertTrue(0 <= x0 and x1 <= width and y1 < height, (name, width, height))
        w.xdotool("windowunmap", "--sync", w.id)
        w.xdotool("windowmap", "--sync", w.id, "windowfocus", "--sync", w.id)
        w.key("t")
        w.wait(lambda s: s["dark"] and s["ready"], "dark, after it was away")
        w.shot("dark")
        w.key("ctrl+equal", "ctrl+equal")
        w.wait(lambda s: s["ui_scale"] > 1.15 and s["ready"], "larger")
        w.key("ctrl+minus", "ctrl+minus", "t")
        w.wait(lambda s: s["ui_scale"] == 1 and not s["dark"], "as before")

    def test_14_help_and_captions(self):
        w = self.w
        w.key("F1")
        w.wait(lambda s: s["dialogs"]["help"], "help")
        w.shot("help")
        w.key("F1")
        w.wait(lambda s: not s["dialogs"]["help"], "gone")
        # What a small picture has no room to say, its button does.
        w.press("panel1.caption")
        w.wait(lambda s: "panel1.caption_text" in s["controls"], "the caption")
        w.shot("caption")
        w.key("Escape")
        w.wait(lambda s: "panel1.caption_text" not in s["controls"], "read")

    def test_15_every_layout(self):
        for number, name in ((2, "clusters"), (5, "one"), (6, "all")):
            self.w.key(f"ctrl+{number}")
            state = self.w.wait(lambda s: s["layout"] == name and s["ready"], name)
            self.assertEqual([p["failure"] for p in state["panels"] if p["failure"]], [])
            self.w.shot(f"layout_{name}")

    def test_16_the_file_vanishes_while_it_is_open(self):
        w = self.w
        copy = ROOT / "copy"
        shutil.copytree(self.dump, copy)
        w.key("ctrl+o")
        w.wait(lambda s: s["dialogs"]["open"], "the dialog")
        w.type_over("open.path", copy)
        w.wait(lambda s: s["dump"]["path"] == str(copy) and s["ready"], "the copy")
        shutil.rmtree(copy)
        w.wait(lambda s: s["dump"]["gone"], "it is noticed")
        w.key("bracketright")
        w.wait(lambda s: s["slots"][0]["head"] == 1 and s["ready"], "computed all the same")
        w.key("bracketleft")
        # The list of recent dumps leads back.
        w.key("ctrl+o")
        state = w.wait(lambda s: s["dialogs"]["open"] and "open.recent=1" in s["controls"], "the recent ones")
        self.assertEqual(state["recent"][:2], [str(copy), str(self.dump)])
        w.press("open.recent=1")
        w.wait(lambda s: s["dump"]["path"] == str(self.dump) and not s["dump"]["gone"] and s["ready"], "the first one")


class OtherWindows(unittest.TestCase):
    def window(self, *args, **more):
        window = Window(*args, **more)
        self.addCleanup(window.end)
        return window

    def test_started_without_a_dump(self):
        w = self.window()
        w.wait(lambda s: s["dump"] is None and "start.open" in s["controls"], "the start page")
        w.shot("start")
        dump = small_dump("typed")
        w.press("start.open")
        w.wait(lambda s: s["dialogs"]["open"], "the dialog")
        w.type_over("open.path", dump)
        w.wait(lambda s: s["dump"] and s["recent"] == [str(dump)], "the dump")
        self.assertEqual(w.close()[0], 0)

    def test_a_dropped_dump_is_opened(self):
        try:
            from drop_file import drop_file
        except ImportError:
            self.skipTest("python3-xlib is missing")
        w = self.window()
        w.wait(lambda s: "start.open" in s["controls"], "the start page")
        dump = small_dump("dropped, with a space")
        drop_file(DISPLAY.name, int(w.id), 400, 300, dump, PATIENCE)
        w.wait(lambda s: s["dump"] and s["recent"] == [str(dump)] and s["ready"], "the dump")
        self.assertEqual(w.close()[0], 0)

    def test_settings_are_kept_and_broken_ones_set_aside(self):
        w = self.window(size=None)
        w.key("t")
        w.wait(lambda s: s["dark"], "dark")
        self.assertEqual(w.close()[0], 0)
        file = w.folder / "config" / "muse" / "viewer.json"
        self.assertTrue(json.loads(file.read_text())["dark"])
        file.write_text("{")
        state = ROOT / "broken_settings.json"
        subprocess.run([VIEWER, "--frames", "8", "--state-json", state], env=w.env, check=True, timeout=PATIENCE,
                       cwd=w.folder / "cwd")
        self.assertIn("set aside", json.loads(state.read_text())["dialogs"]["messages"][0]["text"])
        self.assertTrue(file.with_suffix(".json.broken").exists())

    def test_cancelled_and_computed_again_and_closed_meanwhile(self):
        # Hundreds of settings: they take far longer than a key.
        w = self.window(small_dump("large", 2048, 32), "--view", "tradeoff", "--grid", "full")
        computing = lambda s: s["work"]["sweeps"]["busy"] and s["panels"][0]["computing"]
        w.wait(lambda s: s["dump"] and computing(s), "a computation")
        w.key("BackSpace")
        w.wait(lambda s: "cancelled" in s["panels"][0]["failure"] and not s["work"]["sweeps"]["busy"], "it is said")
        w.shot("cancelled")
        w.press("panel1.again")
        w.wait(lambda s: computing(s) and not s["panels"][0]["failure"], "computed again")
        # Another view does not wait for it.
        sweeps = lambda s: s["work"]["sweeps"]
        def stopped(before, what):
            """The sweep, which nobody wants any more, is cancelled: it does not run to its end."""
            state = w.wait(lambda s: not sweeps(s)["busy"], f"the sweep idle: {what}")
            self.assertEqual(sweeps(state)["finished"], sweeps(before)["finished"], what)
            self.assertEqual(sweeps(state)["cancelled"], sweeps(before)["cancelled"] + 1, what)
        before = w.state()
        w.key("3")
        state = w.wait(lambda s: s["panels"][0]["view"] == "error" and s["ready"], "another view meanwhile")
        print("frames during a computation:", state["frames"]["computing"], file=sys.stderr)
        stopped(before, "another view, which has to be computed")
        w.key("7")
        before = w.wait(computing, "a computation")
        w.key("3")
        stopped(before, "another view, which is there")
        w.key("7")
        before = w.wait(computing, "a computation")
        w.key("ctrl+1")
        stopped(before, "another layout")
        w.key("7")
        w.wait(computing, "a computation")
        start = time.monotonic()
        status, log = w.close()
        self.assertEqual(status, 0, log)
        self.assertLess(time.monotonic() - start, PATIENCE / 4)

    def test_a_gpu_that_is_not_there_is_said_and_the_cpu_computes(self):
        dump = small_dump("gpu")
        w = self.window(dump, *SMALL, "--device", "cuda", "--retrieve", 3)
        state = w.wait(lambda s: s["dump"] and s["ready"] and s["gpu_problem"] is not None, "the dump")
        self.assertEqual(state["slots"][0]["options"]["retrieve"], "3")
        if not state["gpu_problem"]:
            self.assertEqual(state["slots"][0]["device"], "cuda")
            return
        self.assertEqual(state["slots"][0]["device"], "cpu")
        state = w.wait(lambda s: s["dialogs"]["messages"], "a message")
        self.assertIn(state["gpu_problem"], state["dialogs"]["messages"][0]["text"])
        w.shot("no_gpu")
        # A picture of the window would not be what was asked for.
        done = subprocess.run([VIEWER, dump, "--device", "cuda", "--screenshot", ROOT / "no_gpu.png"], env=w.env,
                              capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("--device cuda", done.stderr)

    def test_interrupted(self):
        w = self.window(SLICE, "--layout", "all")
        w.wait(lambda s: s["work"]["views"]["busy"] and s["dump"], "a computation")
        w.process.send_signal(signal.SIGINT)
        self.assertEqual(w.process.wait(PATIENCE), 130)

    def test_screenshot(self):
        path, state = ROOT / "shot.png", ROOT / "shot.json"
        dump = small_dump("shot")
        env = {**os.environ, "DISPLAY": DISPLAY.name}
        subprocess.run([VIEWER, dump, *SMALL, "--screenshot", path, "--size", "900x600", "--select", "200",
                        "--state-json", state, "--theme", "dark"], check=True, env=env, timeout=PATIENCE)
        self.assertEqual(path.read_bytes()[16:24], (900).to_bytes(4, "big") + (600).to_bytes(4, "big"))
        shown = json.loads(state.read_text())
        self.assertTrue(shown["ready"] and shown["closed"] and shown["selection"]["locked"] == {"query": 200})
        done = subprocess.run([VIEWER, ROOT / "not there", "--screenshot", path], env=env, capture_output=True, text=True,
                              timeout=PATIENCE)
        self.assertEqual(done.returncode, 2, done.stderr)

    def test_without_a_display(self):
        env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        done = subprocess.run([VIEWER], env=env, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--export", done.stderr)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
    DISPLAY = Display()
    try:
        unittest.main()
    finally:
        DISPLAY.close()
