"""A neural recommender as the library RecBole has it, trained under a budget of processor seconds and stopped where
`watch` says.

RecBole makes the batches and the steps; scores leave as a matrix, so that everybody is ranked by the benchmark's own
metric code.
Settings: `model`, `budget_s`, `metric` (NDCG@k or R@k), `epochs` (which validation found: then nothing is watched), and
RecBole's own.
"""

import logging
import os
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
os.chdir(folder)  # RecBole writes logs and checkpoints into the current folder

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402
from shared import stage, stopping  # noqa: E402

logging.disable(logging.CRITICAL)
settings = stage.read_settings(folder)
torch.set_num_threads(1)  # processor seconds are the budget, and threads that wait for each other burn them
SEQUENTIAL = ("GRU4Rec",)
LONGEST = 50  # interactions that a sequential model sees
STEP = 2048  # interactions of a step, each with its negatives


train, history, watch, times = stage.read_pairs(folder)
num_users, num_items = train.shape
model_name, budget_s, metric = (settings.pop(name) for name in ("model", "budget_s", "metric"))
fixed_epochs, seed = settings.pop("epochs", None), settings.pop("seed")
sample_num = settings.pop("sample_num", 1)  # negatives of each interaction
is_sequential = model_name in SEQUENTIAL


def write_pairs():
    """RecBole's file of interactions. Each user has two more than train, which its leave-one-out split takes away
    again."""
    (folder / "data" / "pairs").mkdir(parents=True)
    with (folder / "data" / "pairs" / "pairs.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user in range(num_users):
            own = stage.ordered(train, user, times).tolist()
            if own:
                for place, item in enumerate([*own, own[-1], own[-1]]):
                    file.write(f"{user}\t{item}\t{place}\n")


write_pairs()
config = Config(
    model=model_name,
    dataset="pairs",
    config_dict={
        "data_path": str(folder / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"group_by": "user", "order": "TO", "split": {"LS": "valid_and_test"}, "mode": "full"},
        "train_neg_sample_args": None
        if is_sequential
        else {"distribution": "uniform", "sample_num": sample_num, "dynamic": False},
        "train_batch_size": STEP * sample_num,
        "MAX_ITEM_LIST_LENGTH": LONGEST,
        "use_gpu": False,
        "device": "cpu",
        "show_progress": False,
        "seed": seed,
        "reproducibility": True,
        "state": "ERROR",
        **settings,
    },
)
init_seed(seed, True)
dataset = create_dataset(config)
train_data, _, _ = data_preparation(config, dataset)
model = get_model(model_name)(config, train_data.dataset)
trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
number = {
    kind: dataset.field2token_id[f"{kind}_id"] for kind in ("user", "item")
}  # token -> RecBole's own number; 0 is padding
columns = np.array([number["item"].get(str(item), 0) for item in range(num_items)])


@torch.no_grad()
def scores(known):
    """float32 [U, N] from RecBole's own full ranking; an item that training lacks comes last, a user that it lacks gets
    zeros."""
    model.eval()
    if hasattr(model, "restore_user_e"):
        model.restore_user_e = model.restore_item_e = None  # LightGCN keeps them from the last ranking
    result = np.zeros((num_users, num_items), np.float32)
    users = [user for user in range(num_users) if str(user) in number["user"]]
    for start in range(0, len(users), 256):
        block = users[start : start + 256]
        batch = {"user_id": torch.tensor([number["user"][str(user)] for user in block])}
        if is_sequential:
            lists = [
                [columns[item] for item in stage.ordered(known, user, times) if columns[item]][-LONGEST:]
                for user in block
            ]
            batch["item_id_list"] = torch.tensor([[*own, *[0] * (LONGEST - len(own))] for own in lists])
            batch["item_length"] = torch.tensor([max(len(own), 1) for own in lists])
        every = model.full_sort_predict(Interaction(batch)).reshape(len(block), -1)[:, : dataset.item_num].numpy()
        found = every[:, columns]
        found[:, columns == 0] = every[:, 1:].min() - 1
        result[block] = found
    return result


report = stopping.train(
    model,
    lambda epoch: trainer._train_epoch(train_data, epoch, show_progress=False),
    lambda: scores(train),
    train,
    watch,
    metric,
    budget_s,
    fixed_epochs,
)
stage.write(folder, scores(history), sum(weight.numel() for weight in model.parameters()), **report)
