#!/usr/bin/env python3
"""MuSe beside PyTorch's attention on one GPU: time, and error against exact attention, in one run.

    side_by_side.py build/reference_cpu/libmuse.so --dumps DUMPS --json docs/results/side_by_side_h100.json

Both get the same bfloat16 tensors. PyTorch's scaled_dot_product_attention with its cuDNN backend is what the speed-up
is measured against; its flash backend stands beside it for information. Everything that a call of MuSe does is
counted: clustering, sorting, all stages. The runs alternate, each is timed by events on the GPU, and the median is
taken. MuSe runs as a captured graph, like a layer in a captured training step; --eager launches it each time.

Error: the relative squared error (8.1) of docs/math.md of each head that differs, against exact attention in float32
on the same tensors. Where there are more than 64k tokens, on some of the queries.
Correctness: before it is timed, a setting must be finite, and near what the float32 path computes with the same
labels. If it is not, its line says WRONG and has no time.

DUMPS is a folder with the dumps source16k and source64k (docs/formats.md): real heads, tiled over as many heads as the
case has. Cases without a dump, and those of head dim 128, take random numbers: they are about time alone.
Needs PyTorch and NumPy.
"""
import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys

# ---- The C interface of libmuse (reference_cpu/include/muse/muse.h) ------------------------------------------------

MAX_LEVELS = 24
DEVICE_CPU, DEVICE_CUDA = 0, 1
FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2


class ClusterRule(ctypes.Structure):
    _fields_ = [("divisor", ctypes.c_int64), ("low", ctypes.c_int64), ("high", ctypes.c_int64)]


class Config(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("mode", ctypes.c_int32), ("order", ctypes.c_int32),
                ("cluster_by", ctypes.c_int32), ("metric", ctypes.c_int32), ("clusters_q_levels", ctypes.c_int32),
                ("clusters_k_levels", ctypes.c_int32), ("retrieve_levels", ctypes.c_int32),
                ("clusters_q", ClusterRule * MAX_LEVELS), ("clusters_k", ClusterRule * MAX_LEVELS),
                ("retrieve", ctypes.c_int64 * MAX_LEVELS), ("block", ctypes.c_int64), ("passes", ctypes.c_int64),
                ("cluster_window", ctypes.c_int64), ("seed", ctypes.c_uint64), ("sample", ctypes.c_int64),
                ("retrieve_by", ctypes.c_int32), ("reserved", ctypes.c_int32)]


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("stride_batch", ctypes.c_int64), ("stride_head", ctypes.c_int64),
                ("stride_token", ctypes.c_int64)]


class Call(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("device", ctypes.c_int32), ("dtype", ctypes.c_int32),
                ("reserved", ctypes.c_int32), ("batch", ctypes.c_int64), ("heads_q", ctypes.c_int64),
                ("heads_kv", ctypes.c_int64), ("Nq", ctypes.c_int64), ("Nk", ctypes.c_int64), ("D", ctypes.c_int64),
                ("Dv", ctypes.c_int64), ("scale", ctypes.c_double), ("q", Tensor), ("k", Tensor), ("v", Tensor),
                ("o", Tensor), ("lse", ctypes.c_void_p), ("labels_q", ctypes.c_void_p), ("labels_k", ctypes.c_void_p),
                ("labels_q_out", ctypes.c_void_p), ("labels_k_out", ctypes.c_void_p), ("workspace", ctypes.c_void_p),
                ("workspace_size", ctypes.c_uint64), ("stream", ctypes.c_void_p), ("retrieve_heads", ctypes.c_void_p)]


class MuseError(Exception):
    """What a function of the library answered: its status and message."""


class Library:
    """libmuse.so: one method a function, statuses turned into exceptions."""

    VERSION = 1

    def __init__(self, path):
        self.c = ctypes.CDLL(str(pathlib.Path(path).resolve()))
        for name in ("muse_version", "muse_last_error", "muse_status_name"):
            getattr(self.c, name).restype = ctypes.c_char_p
        if self.c.muse_abi_version() != self.VERSION:
            raise MuseError(f"{path}: expected interface version {self.VERSION}, found {self.c.muse_abi_version()}")

    def check(self, status):
        if status != 0:
            raise MuseError(f"{self.c.muse_status_name(status).decode()}: {self.c.muse_last_error().decode()}")

    def version(self):
        return self.c.muse_version().decode()

    def config(self, options):
        config = Config()
        self.check(self.c.muse_config_init(ctypes.byref(config), ctypes.sizeof(config)))
        for name, text in options.items():
            self.check(self.c.muse_config_set(ctypes.byref(config), name.encode(), str(text).encode()))
        return config

    def call(self):
        call = Call()
        self.check(self.c.muse_call_init(ctypes.byref(call), ctypes.sizeof(call)))
        return call

    def workspace_size(self, config, call):
        best = ctypes.c_uint64()
        self.check(self.c.muse_workspace_size(ctypes.byref(config), ctypes.byref(call), ctypes.byref(best), None))
        return best.value

    def level_count(self, config, call):
        levels = ctypes.c_int64()
        self.check(self.c.muse_level_count(ctypes.byref(config), ctypes.byref(call), ctypes.byref(levels)))
        return levels.value

    def attention(self, config, call):
        self.check(self.c.muse_attention(ctypes.byref(config), ctypes.byref(call)))


# ---- What is measured ----------------------------------------------------------------------------------------------


class Case:
    """Some tokens and heads, the settings to try, and what the project set out to reach: speed-up and error."""

    def __init__(self, name, mode, tokens, heads, dump, dump_tokens, settings, speedup, error=None, cudnn=True, dim=64):
        self.name, self.mode, self.tokens, self.heads, self.dim = name, mode, tokens, heads, dim
        self.dump, self.dump_tokens = dump, dump_tokens  # None: random numbers
        self.settings, self.speedup, self.error, self.cudnn = settings, speedup, error, cudnn


def settings(clusters_q, clusters_k, r, passes, sample, **others):
    """Values are numbers, or texts: "2048|8192" has one for each head of the dump, "7,4,3" one for each level."""
    return {"clusters-q": clusters_q, "clusters-k": clusters_k, "retrieve": r, "retrieve-by": "mean-weight",
            "passes": passes, "sample": sample, **others}


def all_cases():
    # The first setting of a case is the one for its target; the others are more accurate, and faster. The three heads
    # of source16k differ much in what they need for an error: each has settings of its own.
    spread = {"order": "dipole_spread"}

    def long(r=0, clusters_q="S/1024:32:128", clusters_k="S/256:128:256", block=8192):
        return settings(clusters_q, clusters_k, r, 1, 16, block=block, **spread)

    cases = [
        Case("8k acausal", "acausal", 8192, 128, "source16k", 8192,
             [settings("40|48|52", "56|52|56", "2|2|7", "1|1|3", "8|8|4"),
              settings(48, 48, "4|3|13", "1|1|2", "4|4|2", order="dipole|dipole|dipole_spread"),
              settings("40|48|56", "56|52|56", "2|2|6", "1|1|3", "8|8|4", order="dipole|dipole|dipole_spread"),
              settings("40|48|56", "56|52|56", "1|2|5", "1|1|3", "8|8|4", order="dipole|dipole|dipole_spread")],
             4, 0.16),
        # Twice the same in two calls side by side: one's short kernels fill what the other's leave idle.
        Case("64k acausal", "acausal", 65536, 8, "source64k", 65536,
             [settings(256, 384, "7|7", 2, 8, **spread), settings(256, 384, 7, 2, 8, **spread),
              settings(512, 768, "64|64", 2, 4, **spread), settings(256, 384, "26|26", 2, 4, **spread),
              settings(224, 384, "7|7", 2, 8, **spread)], 12, 0.50),
        Case("16k causal", "causal", 16384, 64, "source16k", 16384,
             [settings("S/256", "S/64|S/256|S/128", 0, 1, 8, block="2048|2048|8192", **spread),
              settings("S/256|S/256|S/128", "S/64|S/128|S/128", "1|0|4", 1, 8, block="4096|2048|8192", **spread),
              settings("S/256", "S/64|S/256|S/256", 0, 1, 8, block="4096|2048|8192", **spread),
              settings("S/256", "S/128|S/256|S/128", 0, 1, 8, block="2048|2048|8192", **spread),
              settings("S/256", "S/64|S/256|S/128", 0, 1, 8, block="2048|2048|4096", **spread),
              settings("S/256", "S/256", 0, 1, 8, block=2048, **spread),
              settings("S/1024", "S/256", 0, 0, 8, block=2048, order="dipole")], 2, 0.030),
        Case("64k causal", "causal", 65536, 8, "source64k", 65536,
             [long(), long("7,4,3,1", "S/256:16:128", "S/128:32:256"), long("9,6,4,2", "S/256:16:128", "S/128:32:256"),
              long("16,10,6,3", "S/128:16:256", "S/128:32:256"), long("16,8", "S/64", "S/128", block=16384),
              long(0, 32, 64)], 5, 0.08),
        Case("128k causal", "causal", 131072, 8, None, 0, [long()], 7),
        Case("1M causal", "causal", 1048576, 8, None, 0, [long()], None, cudnn=False),
    ]
    # Twice the head dim: 70 % of the factors, on random numbers, whose heads are all alike. Smaller diagonal blocks, as
    # they cost twice as much.
    wide_long = settings("S/256:16:128", "S/128:32:256", "7,4,3,1", 1, 16, block=4096)
    own = {"8k acausal": settings(48, 48, 5, 2, 4), "16k causal": settings("S/256", "S/64", 9, 1, 8, block=4096),
           "64k acausal": settings(256, 384, 11, 2, 4), "64k causal": wide_long, "128k causal": wide_long}
    wide = [Case(case.name + ", D=128", case.mode, case.tokens, case.heads, None, 0,
                 [own.get(case.name, case.settings[0])], round(0.7 * case.speedup, 2), dim=128)
            for case in cases if case.cudnn]
    return cases + wide


def parse_options(text):
    """"clusters=64,retrieve=8" -> a dict; values that hold commas are written with ';' for them. Heads of the dump that
    need different values have them in order, with '|' between: "block=2048|8192"."""
    options = {}
    for part in text.split(","):
        name, found, value = part.partition("=")
        if not found:
            raise SystemExit(f"expected NAME=VALUE[,NAME=VALUE…], found '{part}' in '{text}'")
        options[name] = value.replace(";", ",")
    return options


def text_of(options):
    return " ".join(f"{name}={value}" for name, value in options.items())


class Muse:
    """A call of MuSe on some tensors [heads, tokens, dim] of the GPU, made again and again in the same memory."""

    def __init__(self, torch, library, options, q, k, v, scale, labels=None, o=None):
        self.torch, self.library = torch, library
        options = dict(options)
        of_heads = options.pop("retrieve-heads", None)
        self.config, self.c = library.config(options), library.call()
        heads, tokens, dim = q.shape
        call = self.c
        if of_heads is not None:  # one number a head of the dump; the heads are taken again and again
            numbers = [int(r) for r in str(of_heads).split(",")]
            self.retrieve_heads = torch.tensor([numbers[h % len(numbers)] for h in range(heads)], dtype=torch.int32,
                                               device="cuda")
            call.retrieve_heads = self.retrieve_heads.data_ptr()
        call.device, call.dtype = DEVICE_CUDA, {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}[q.dtype]
        call.heads_q = call.heads_kv = heads
        call.Nq = call.Nk = tokens
        call.D = call.Dv = dim
        call.scale = scale
        levels = library.level_count(self.config, call)
        self.keep = [q, k, v]
        self.o = torch.full_like(q, float("nan")) if o is None else o
        self.lse = torch.full((heads, tokens), float("nan"), device="cuda")
        for tensor, x in ((call.q, q), (call.k, k), (call.v, v), (call.o, self.o)):
            tensor.data = x.data_ptr()
            tensor.stride_batch, tensor.stride_head, tensor.stride_token = heads * x.stride(0), x.stride(0), x.stride(1)
        call.lse = self.lse.data_ptr()
        self.labels = labels
        if labels is None:
            self.labels_out = [torch.empty((heads, levels, tokens), dtype=torch.int32, device="cuda") for _ in "qk"]
        else:
            call.labels_q, call.labels_k = (x.data_ptr() for x in labels)
        self.workspace = torch.empty(library.workspace_size(self.config, call), dtype=torch.uint8, device="cuda")
        call.workspace, call.workspace_size = self.workspace.data_ptr(), self.workspace.numel()

    def launch(self, with_labels=False):
        call = self.c
        call.stream = self.torch.cuda.current_stream().cuda_stream
        call.labels_q_out, call.labels_k_out = (x.data_ptr() for x in self.labels_out) if with_labels else (None, None)
        self.library.attention(self.config, call)


class MuseHeads:
    """Heads [heads, tokens, dim], each with what it needs: a call for the heads that stem from the same head of the dump,
    with a stream of its own, if their settings differ; otherwise one call."""

    def __init__(self, torch, library, options, q, k, v, scale, labels=None):
        self.torch = torch
        self.o = torch.full_like(q, float("nan"))
        values = {name: str(value).split("|") for name, value in options.items()}
        count = max(len(of_heads) for of_heads in values.values())
        for name, of_heads in values.items():
            if len(of_heads) not in (1, count):
                raise SystemExit(f"{name}: expected one value or one for each of {count} heads, found {len(of_heads)}")
        self.calls = []
        for head in range(count):
            if head == q.shape[0]:
                break
            own = {name: of_heads[head % len(of_heads)] for name, of_heads in values.items()}
            heads = slice(head, None, count)
            self.calls.append(Muse(torch, library, own, q[heads], k[heads], v[heads], scale,
                                   None if labels is None else labels[head], self.o[heads]))
        self.streams = [torch.cuda.Stream() for _ in self.calls]
        self.graph = None

    def workspace_bytes(self):
        return sum(call.workspace.numel() for call in self.calls)

    def non_finite(self):
        return sum(int((~self.torch.isfinite(x)).sum()) for x in [self.o, *(call.lse for call in self.calls)])

    def take_labels(self, heads):
        """Of the first `heads` heads, call by call; they are kept no longer."""
        labels = []
        for n, call in enumerate(self.calls):
            first = len(range(n, heads, len(self.calls)))
            labels.append([x[:first].contiguous() for x in call.labels_out])
            call.labels_out = None
        return labels

    def launch(self, with_labels=False):
        if len(self.calls) == 1:
            self.calls[0].launch(with_labels)
            return
        here = self.torch.cuda.current_stream()
        begin = here.record_event()
        for call, stream in zip(self.calls, self.streams):
            stream.wait_event(begin)
            with self.torch.cuda.stream(stream):
                call.launch(with_labels)
        for stream in self.streams:
            here.wait_event(stream.record_event())

    def capture(self):
        self.launch()
        self.torch.cuda.synchronize()
        self.graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(self.graph):
            self.launch()

    def __call__(self):
        if self.graph is not None:
            self.graph.replay()
        else:
            self.launch()


def exact_attention(torch, q, k, v, scale, mask, rows):
    """Exact attention in float32 of the queries `rows` of one head [tokens, dim], some at a time: (1.1)."""
    q, k, v = (x.float() for x in (q, k, v))
    positions = torch.arange(k.shape[0], device=k.device)
    out = []
    for some in rows.split(max(1, 2**28 // k.shape[0])):
        logits = scale * (q[some] @ k.T)
        if mask == "causal":
            logits.masked_fill_(positions[None, :] > some[:, None], float("-inf"))
        out.append(torch.softmax(logits, dim=-1) @ v)
    return torch.cat(out)


def relative_squared_error(found, truth):
    found, truth = found.double(), truth.double()
    return ((found - truth).square().sum() / truth.square().sum()).item()


def load_inputs(torch, numpy, case, dumps):
    """q, k, v [heads, tokens, dim] in bfloat16, how many heads differ, and the scale."""
    if case.dump is None:
        generator = torch.Generator(device="cuda").manual_seed(1)
        q, k, v = (torch.randn((case.heads, case.tokens, case.dim), generator=generator, device="cuda",
                               dtype=torch.float32).bfloat16() for _ in "qkv")
        return (q, k, v), 1, case.dim**-0.5
    folder = pathlib.Path(dumps) / case.dump
    meta = json.loads((folder / "meta.json").read_text())
    tensors, different = [], 0
    for name in "qkv":
        x = torch.from_numpy(numpy.load(folder / f"{name}.npy")[:, :case.dump_tokens]).cuda().bfloat16()
        different = x.shape[0]
        tensors.append(x.repeat((case.heads + different - 1) // different, 1, 1)[:case.heads].contiguous())
    return tensors, different, meta["scale"]


def sdpa(torch, backend, q, k, v, scale, is_causal):
    """A function that runs PyTorch's attention with one backend; or None and why not."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    four = [x.unsqueeze(0) for x in (q, k, v)]

    def run():
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return torch.nn.functional.scaled_dot_product_attention(*four, is_causal=is_causal, scale=scale)[0]

    try:
        run()
        torch.cuda.synchronize()
        return run, ""
    except RuntimeError as error:
        return None, str(error).splitlines()[0]


def time_alternating(torch, runs, repeats, warm_up):
    """Milliseconds of each run, one after the other, `repeats` times around: median, least and largest."""
    for _ in range(warm_up):
        for run in runs.values():
            run()
    torch.cuda.synchronize()
    events = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            events[name].append((begin, end))
    torch.cuda.synchronize()
    times = {name: [begin.elapsed_time(end) for begin, end in pairs] for name, pairs in events.items()}
    return {name: {"median_ms": statistics.median(t), "least_ms": min(t), "largest_ms": max(t)}
            for name, t in times.items()}


# How far the bfloat16 path may be from the float32 path with the same labels, relative L2: a few roundings of 2^-9 one
# after the other, and the clusters of all but equal mass whose retrieval rounding decides.
FAR_FROM_FLOAT32 = 0.05


def measure(torch, numpy, library, case, arguments):
    """One case: a row a setting."""
    (q, k, v), different, scale = load_inputs(torch, numpy, case, arguments.dumps)
    is_causal = case.mode != "acausal"
    tokens = case.tokens
    rows = torch.arange(0, tokens, max(1, tokens // 65536 * 64) if tokens > 65536 else 1, device="cuda")
    checked = min(different, case.heads)
    truth = [exact_attention(torch, q[h], k[h], v[h], scale, case.mode, rows) for h in range(checked)]

    runs, result = {}, {"case": case.name, "mode": case.mode, "tokens": tokens, "heads": case.heads, "dim": case.dim,
                        "inputs": case.dump or "random", "different_heads": different,
                        "queries_of_error": len(rows), "target_speedup": case.speedup, "target_error": case.error,
                        "rows": []}
    for name, backend in (("cudnn", "CUDNN_ATTENTION"), ("flash", "FLASH_ATTENTION")):
        run, why = (None, "not run at this length") if not case.cudnn else sdpa(torch, backend, q, k, v, scale, is_causal)
        result[name] = {"ran": run is not None, "why_not": why}
        if run is not None:
            o = run()
            result[name]["rel_sq_err"] = [relative_squared_error(o[h][rows], truth[h]) for h in range(checked)]
            runs[name] = run
            del o

    calls = {}
    for options in case.settings:
        options = {"mode": case.mode, **options}
        row = {"settings": options, "wrong": None}
        result["rows"].append(row)
        try:
            muse = MuseHeads(torch, library, options, q, k, v, scale)
            row["workspace_bytes"] = muse.workspace_bytes()
            muse.launch(with_labels=True)
            torch.cuda.synchronize()
        except MuseError as error:
            row["wrong"] = str(error)
            continue
        non_finite = muse.non_finite()
        labels = muse.take_labels(checked)
        row["rel_sq_err"] = [relative_squared_error(muse.o[h][rows], truth[h]) for h in range(checked)]
        row["mean_rel_sq_err"] = statistics.mean(row["rel_sq_err"])
        # The float32 path, with the same labels.
        in_float = MuseHeads(torch, library, options, *(x[:checked].float().contiguous() for x in (q, k, v)), scale, labels)
        in_float.launch()
        torch.cuda.synchronize()
        row["rel_l2_to_float32"] = max(relative_squared_error(muse.o[h], in_float.o[h])**0.5 for h in range(checked))
        del in_float, labels
        if non_finite:
            row["wrong"] = f"{non_finite} outputs are not finite"
        elif not row["rel_l2_to_float32"] <= FAR_FROM_FLOAT32:
            row["wrong"] = f"relative L2 {row['rel_l2_to_float32']:.3f} from float32 with the same labels"
        else:
            if not arguments.eager:
                muse.capture()
            name = f"muse {len(calls)}"
            calls[name] = (muse, row)
            runs[name] = muse

    times = time_alternating(torch, runs, arguments.repeats, arguments.warm_up)
    for name in ("cudnn", "flash"):
        if name in times:
            result[name].update(times[name])
    for name, (_, row) in calls.items():
        row.update(times[name])
        if "cudnn" in times:
            row["speedup"] = times["cudnn"]["median_ms"] / row["median_ms"]
    return result


# ---- Output --------------------------------------------------------------------------------------------------------


def print_case(result):
    def milliseconds(x):
        return f"{x['median_ms']:9.3f}" if "median_ms" in x else "        -"

    for row in result["rows"]:
        speedup = f"{row['speedup']:6.2f}x" if "speedup" in row else "      -"
        target = "" if result["target_speedup"] is None else f" (target {result['target_speedup']}x"
        if target:
            target += ")" if result["target_error"] is None else f" at {result['target_error']})"
        error = f"{row['mean_rel_sq_err']:.4f}" if "mean_rel_sq_err" in row else "-"
        settings = text_of({name: value for name, value in row["settings"].items() if name != "mode"})
        time = f"WRONG: {row['wrong']}" if row["wrong"] else milliseconds(row)
        print(f"{result['case']:20} {settings:58} cuDNN {milliseconds(result['cudnn'])}  flash "
              f"{milliseconds(result['flash'])}  MuSe {time} ms  {speedup}  error {error}{target}", flush=True)


def command_output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def about_this_run(torch, library, arguments):
    driver, clock, power = (command_output("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", "--id=0")
                            for field in ("driver_version", "clocks.max.sm", "power.limit"))
    here = pathlib.Path(__file__).resolve().parent
    return {"device": torch.cuda.get_device_name(0), "driver": driver, "largest_sm_clock": clock, "power_limit": power,
            "versions": {"torch": torch.__version__, "cuda": torch.version.cuda,
                         "cudnn": str(torch.backends.cudnn.version()), "muse": library.version(),
                         "commit": arguments.commit or command_output("git", "-C", str(here), "rev-parse", "--short=12", "HEAD")},
            "repeats": arguments.repeats, "warm_up": arguments.warm_up, "graph": not arguments.eager}


def main():
    parser = argparse.ArgumentParser(description="MuSe beside PyTorch's attention: time and error in one run.")
    parser.add_argument("library", help="libmuse.so, built with CUDA")
    parser.add_argument("--dumps", help="folder that holds the dumps source16k and source64k")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--cases", help="comma list of parts of names, such as '8k acausal,D=128'; default: all")
    parser.add_argument("--settings", action="append", default=[], metavar="CASE:NAME=VALUE,…",
                        help="settings for a case instead of its own, where ';' stands for a comma in a value; repeat for more")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each (default 20)")
    parser.add_argument("--warm-up", type=int, default=3, help="runs of each before them (default 3)")
    parser.add_argument("--eager", action="store_true", help="launch MuSe each time instead of replaying a graph")
    parser.add_argument("--commit", help="commit that the library was built from; default: that of this file")
    arguments = parser.parse_args()

    import numpy
    import torch
    torch.backends.cuda.matmul.allow_tf32 = False  # the truth is float32
    library = Library(arguments.library)
    own = {}
    for text in arguments.settings:
        name, _, options = text.partition(":")
        own.setdefault(name, []).append(parse_options(options))
    cases = all_cases()
    for name in own:
        if name not in [case.name for case in cases]:
            raise SystemExit(f"--settings: no case is called '{name}'; there are {', '.join(case.name for case in cases)}")
    if arguments.cases:
        parts = arguments.cases.split(",")
        cases = [case for case in cases if any(part in case.name for part in parts)]
    document = about_this_run(torch, library, arguments)
    print(f"{document['device']}, driver {document['driver']}, torch {document['versions']['torch']}, cuDNN "
          f"{document['versions']['cudnn']}, MuSe {document['versions']['muse']} of {document['versions']['commit']}; "
          f"median of {arguments.repeats}", flush=True)
    document["cases"], skipped = [], []
    for case in cases:
        case.settings = own.get(case.name, case.settings)
        if case.dump is not None and arguments.dumps is None:
            skipped.append(case.name)
            continue
        document["cases"].append(measure(torch, numpy, library, case, arguments))
        print_case(document["cases"][-1])
        torch.cuda.empty_cache()
        if arguments.json:  # after every case: what is measured is kept if a later one fails
            pathlib.Path(arguments.json).write_text(json.dumps(document, indent=1) + "\n")
    if skipped:
        print(f"not run, for want of --dumps: {', '.join(skipped)}")
    return 1 if any(row["wrong"] for case in document["cases"] for row in case["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
