"""Implicit matrix factorisation by alternating least squares (Hu, Koren and Volinsky, 2008), as the library `implicit` has it."""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares

folder = Path(sys.argv[1])
settings = json.loads((folder / "settings.json").read_text())
train, history = (sp.load_npz(folder / f"{name}.npz").astype(np.float32).tocsr() for name in ("train", "history"))

model = AlternatingLeastSquares(random_state=settings.pop("seed"), **settings)
model.fit(train, show_progress=False)
# The factors of the history, solved anew: in the test it may hold more than what was fitted on.
users = model.recalculate_user(np.arange(history.shape[0]), history)  # [U, F]
np.save(folder / "scores.npy", (users @ model.item_factors.T).astype(np.float32))

peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
report = {"parameters": int(model.item_factors.size + model.user_factors.size), "peak_mb": peak_mb}
(folder / "report.json").write_text(json.dumps(report))
