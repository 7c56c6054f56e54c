#!/usr/bin/env python3
"""Works the 16-token example of docs/tour.md in NumPy float64, knowing nothing of the C++ code.

Writes every intermediate, rounded to 6 decimals, to example16.json beside this file; test_tour.cpp compares the
library's with it. With --check nothing is written: the exit status says whether the file is up to date.
"""
import json
import pathlib
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: no NumPy")
    sys.exit(77)

# Tokens speak of one of two themes. Keys of theme A lie near (2.5, 0.5), of theme B near (0.5, 2.5); a query asks for
# its own theme. The value of a token is its position, so that an output says where a query looks on average.
#     theme        A  A  B  B    A  B  A  B    A  B  B  A    A  B  A  B
K = np.array([(3, 0), (2, 1), (0, 3), (1, 2), (2, 0), (0, 2), (3, 1), (1, 3),
              (2, 1), (0, 2), (1, 3), (3, 0), (2, 0), (0, 3), (3, 1), (1, 2)], dtype=np.float64)
Q = np.array([(2, 0), (1, 0), (0, 2), (0, 1), (2, 1), (1, 2), (1, 0), (0, 1),
              (2, 0), (0, 2), (1, 2), (2, 1), (1, 0), (0, 1), (3, 1), (1, 3)], dtype=np.float64)
V = np.arange(16, dtype=np.float64)[:, None]
N, D, B, C, R, PASSES, S = 16, 2, 4, 2, 1, 1, 0.5


def logsumexp(x):
    m = x.max()
    return m + np.log(np.exp(x - m).sum())


def attend(q, keys, values):
    """Exact attention of one query: output and log-sum-exp."""
    logits = S * keys @ q
    lse = logsumexp(logits)
    return np.exp(logits - lse) @ values, lse


def merge(parts):
    """Attention to the union of disjoint sets of keys."""
    lse = logsumexp(np.array([part[1] for part in parts]))
    return sum(np.exp(part[1] - lse) * part[0] for part in parts), lse


def nearest(x, centroids):
    """Index of the nearest centroid of each row; ties to the lowest index."""
    return ((x[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)


def means(x, labels):
    return np.array([x[labels == c].mean(axis=0) for c in range(C)])


def kmeans(x):
    n = len(x)
    centroids = np.array([x[c * n // C + n // (2 * C)] for c in range(C)])
    for _ in range(PASSES):
        centroids = means(x, nearest(x, centroids))
    return nearest(x, centroids)


def work_block(level, first, span):
    """The queries of [first + span, first + 2 span) against the keys of [first, first + span)."""
    past, now = slice(first, first + span), slice(first + span, min(first + 2 * span, N))
    keys, values = K[past], V[past]
    labels_k = kmeans(keys)
    labels_home = kmeans(Q[past])  # strictly causal: expansion points come from the past
    q_bar = means(Q[past], labels_home)
    labels_q = nearest(Q[now], q_bar)

    # Stage 1: each query centroid against each key cluster.
    L, k_tilde, v_tilde = np.zeros((C, C)), np.zeros((C, C, D)), np.zeros((C, C, 1))
    p = np.zeros((C, span))
    for i in range(C):
        for j in range(C):
            members = labels_k == j
            a = S * keys[members] @ q_bar[i]
            L[i, j] = logsumexp(a)
            p[i, members] = np.exp(a - L[i, j])
            k_tilde[i, j] = p[i, members] @ keys[members]
            v_tilde[i, j] = p[i, members] @ values[members]
    retrieved = [sorted(np.argsort(-L[i], kind="stable")[:R].tolist()) for i in range(C)]

    # Stage 2: each query against the summaries that its centroid sees.
    queries = []
    for t, i in zip(range(now.start, now.stop), labels_q):
        delta = Q[t] - q_bar[i]
        ell = L[i] + S * k_tilde[i] @ delta
        far_clusters = [j for j in range(C) if j not in retrieved[i]]
        far_lse = logsumexp(ell[far_clusters])
        far = (np.exp(ell[far_clusters] - far_lse) @ v_tilde[i, far_clusters], far_lse)
        tokens = np.isin(labels_k, retrieved[i])
        near = attend(Q[t], keys[tokens], values[tokens])
        part = merge([near, far])
        queries.append({"token": t, "cluster": i, "delta": delta, "ell": ell,
                        "retrieved_o": near[0], "retrieved_lse": near[1], "far_o": far[0], "far_lse": far[1],
                        "o": part[0], "lse": part[1]})
    return {"level": level, "query_begin": now.start, "query_end": now.stop, "key_begin": past.start,
            "key_end": past.stop, "labels_k": labels_k, "labels_home": labels_home, "labels_q": labels_q,
            "q_bar": q_bar, "L": L, "p": p, "k_tilde": k_tilde, "v_tilde": v_tilde, "retrieved": retrieved,
            "queries": queries}


def work():
    diagonal = [attend(Q[t], K[t // B * B:t + 1], V[t // B * B:t + 1]) for t in range(N)]
    blocks, level, span = [], 0, B
    while span < N:
        blocks += [work_block(level, first, span) for first in range(0, N - span, 2 * span)]
        level, span = level + 1, 2 * span
    parts = [[part] for part in diagonal]
    for block in blocks:
        for query in block["queries"]:
            parts[query["token"]].append((query["o"], query["lse"]))
    muse = [merge(p) for p in parts]
    exact = [attend(Q[t], K[:t + 1], V[:t + 1]) for t in range(N)]
    o, o_hat = (np.array([part[0] for part in side]) for side in (exact, muse))
    return {
        "inputs": {"N": N, "D": D, "Dv": 1, "B": B, "C": C, "r": R, "passes": PASSES, "scale": S,
                   "q": Q, "k": K, "v": V},
        "diagonal": {"o": [part[0] for part in diagonal], "lse": [part[1] for part in diagonal]},
        "blocks": blocks,
        "muse": {"o": o_hat, "lse": [part[1] for part in muse]},
        "exact": {"o": o, "lse": [part[1] for part in exact]},
        "rel_sq_err": ((o_hat - o) ** 2).sum() / (o ** 2).sum(),
    }


def plain(x):
    """Lists and numbers that JSON knows, rounded to 6 decimals."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [plain(value) for value in x]
    if isinstance(x, (int, np.integer)):
        return int(x)
    return round(float(x), 6) + 0.0  # no minus zero


def text_of(value, indent=0):
    """JSON with each list of numbers on one line."""
    pad = "  " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(key)}: {text_of(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + "  " * indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pad + text_of(item, indent + 1) for item in value) + "\n" + "  " * indent + "]"
    return json.dumps(value)


def main():
    path = pathlib.Path(__file__).with_suffix(".json")
    worked = plain(work())
    if "--check" not in sys.argv[1:]:
        path.write_text(text_of(worked) + "\n")
        return 0

    def close(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(close, a, b))
        return abs(a - b) <= 1.5e-6  # the last decimal may round either way

    same = close(worked, json.loads(path.read_text()))
    print("up to date" if same else f"{path.name} is not what this script computes: run it without --check")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
