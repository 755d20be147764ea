"""A Transformer over histories as the library RecTools has it, all positions of a history trained at once.

Settings: `model`, `budget_s`, `metric`, `epochs` (which validation found: then nothing is watched), and RecTools' own.
"""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel
from shared import stage, stopping

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
torch.set_num_threads(1)  # processor seconds are the budget, and threads that wait for each other burn them
MODELS = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel}

folder = Path(sys.argv[1])
settings = stage.read_settings(folder)


train, history, watch, times = stage.read_pairs(folder)
num_users, num_items = train.shape
model_name, budget_s, metric = (settings.pop(name) for name in ("model", "budget_s", "metric"))
fixed_epochs = settings.pop("epochs", None)
seed_everything(settings.pop("seed"))


histories = [stage.ordered(train, user, times) for user in range(num_users)]
pairs = pd.DataFrame(
    {
        Columns.User: np.repeat(np.arange(num_users), [len(items) for items in histories]),
        Columns.Item: np.concatenate(histories),
        Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.concatenate([np.arange(len(items)) for items in histories]), unit="s"),
    }
)
dataset = Dataset.construct(pairs)
model = MODELS[model_name](**settings)
model._build_model_from_dataset(dataset)
model.fit_trainer, model.is_fitted = model._trainer, True
network, data = model.lightning_model.torch_model, model.data_preparator
columns = np.zeros(num_items, np.int64)  # RecTools' number of each item; 0 is padding
known_items = np.flatnonzero(np.isin(np.arange(num_items), data.item_id_map.external_ids))
columns[known_items] = data.item_id_map.convert_to_internal(known_items)


@torch.no_grad()
def scores(known):
    """float32 [U, N] from RecTools' own reading of a history; an item that training lacks comes last, a user without
    history gets zeros."""
    network.eval()
    items = network.item_model.get_all_embeddings()
    result = np.zeros((num_users, num_items), np.float32)
    lists = [
        [int(columns[item]) for item in stage.ordered(known, user, times) if columns[item]] for user in range(num_users)
    ]
    users = [user for user in range(num_users) if lists[user]]
    for start in range(0, len(users), 256):
        block = users[start : start + 256]
        batch = data._collate_fn_recommend([(lists[user], [], {}) for user in block])
        vectors = network.encode_sessions(batch, items)[:, -1]
        found = (vectors @ items.T).numpy()[:, columns]
        found[:, columns == 0] = found.min() - 1
        result[block] = found
    network.train()
    return result


report = stopping.train(
    network,
    lambda epoch: model.fit_partial(dataset, 1, 1),
    lambda: scores(train),
    train,
    watch,
    metric,
    budget_s,
    fixed_epochs,
)
stage.write(folder, scores(history), sum(weight.numel() for weight in network.parameters()), **report)
