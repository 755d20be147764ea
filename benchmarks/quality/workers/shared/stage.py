"""What a worker is handed in its folder, and what it leaves there: the same for every peer in an environment of its
own.

U users, N items.
"""

import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp


def read_settings(folder):
    """The dict of settings."""
    return json.loads((folder / "settings.json").read_text())


def read_pairs(folder):
    """train, history, watch, times: CSR [U, N] each, or None where there is none."""
    paths = [folder / f"{name}.npz" for name in ("train", "history", "watch", "times")]
    return tuple(sp.load_npz(path).tocsr() if path.exists() else None for path in paths)


def ordered(pairs, user, times):
    """A user's items, oldest first; by number where there is no time, or equal times."""
    items = pairs.indices[pairs.indptr[user] : pairs.indptr[user + 1]]
    if times is None:
        return items
    return items[np.argsort(np.asarray(times[user, items].todense()).ravel(), kind="stable")]


def write(folder, scores, parameters, **report):
    """The scores float32 [U, N], the count of learned numbers, the process' own peak memory, and what else is
    reported."""
    np.save(folder / "scores.npy", scores.astype(np.float32))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    report |= {"parameters": int(parameters), "peak_mb": int(peak.split()[1]) / 1024}
    (folder / "report.json").write_text(json.dumps(report))
