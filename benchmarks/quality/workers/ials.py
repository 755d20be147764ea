"""Implicit matrix factorisation by alternating least squares (Hu, Koren and Volinsky, 2008), as the library `implicit`
has it."""

import sys
from pathlib import Path

import numpy as np
from implicit.als import AlternatingLeastSquares
from shared import stage

folder = Path(sys.argv[1])
settings = stage.read_settings(folder)
train, history = (pairs.astype(np.float32) for pairs in stage.read_pairs(folder)[:2])

model = AlternatingLeastSquares(random_state=settings.pop("seed"), **settings)
model.fit(train, show_progress=False)
# The factors of the history, solved anew: in the test it may hold more than what was fitted on.
users = model.recalculate_user(np.arange(history.shape[0]), history)  # [U, F]
stage.write(folder, users @ model.item_factors.T, model.item_factors.size + model.user_factors.size)
