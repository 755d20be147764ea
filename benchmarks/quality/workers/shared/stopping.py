"""Training under a budget of processor seconds, stopped where held-out pairs say: the same for every neural peer.

U users, N items.
"""

import time

import numpy as np

CHECKS = 25  # looks at what is held out in a whole budget, at most
PATIENCE = 6  # looks without a better one before training stops


def train(model, run_epoch, scores, pairs, watch, metric, budget_s, epochs=None):
    """Train for `epochs`, or where there are none until nothing improves or the budget is spent; the best weights stay
    in the model.

    model: torch module. run_epoch: called with the number of the epoch. scores: () -> float32 [U, N] of the train
    histories.
    pairs, watch: CSR [U, N], hidden and sought. metric: NDCG@k, R@k or accuracy@k.
    Returns the report: the epochs found, and of each look (processor seconds of training, without the looks; epoch;
    value).
    """
    started = time.process_time()
    trained, trace, best, best_epoch, state, last_look, epoch = 0.0, [], -1.0, 0, None, 0.0, 0
    while epoch < (epochs or 10_000):
        begun = time.process_time()
        run_epoch(epoch)
        trained += time.process_time() - begun
        epoch += 1
        spent = time.process_time() - started
        if epochs is not None or (spent - last_look < budget_s / CHECKS and spent < budget_s):
            continue
        last_look = spent
        value = quality(scores(), pairs, watch, metric)
        trace.append([round(trained, 1), epoch, round(value, 5)])
        if value > best:
            best, best_epoch, state = (
                value,
                epoch,
                {name: tensor.clone() for name, tensor in model.state_dict().items()},
            )
        if spent >= budget_s or sum(look[1] > best_epoch for look in trace) >= PATIENCE:
            break
    if state is not None:
        model.load_state_dict(state)
    return {"found": {} if epochs else {"epochs": best_epoch}, "trace": trace}


def quality(table, pairs, watch, metric):
    """Mean of the metric over the users with something to find, `pairs` hidden."""
    kind, _, cutoff = metric.partition("@")
    k = int(cutoff)
    table[pairs.nonzero()] = -np.inf
    top = np.argpartition(-table, k - 1, 1)[:, :k]
    ranked = np.take_along_axis(top, np.argsort(-np.take_along_axis(table, top, 1), 1), 1)
    hits = np.take_along_axis(watch.astype(bool).toarray(), ranked, 1)
    counts = watch.getnnz(1)
    if kind == "NDCG":
        discounts = 1 / np.log2(np.arange(2, k + 2))
        values = hits @ discounts / np.cumsum(discounts)[np.minimum(np.maximum(counts, 1), k) - 1]
    else:
        values = hits.sum(1) / np.maximum(counts, 1)
    return float(values[counts > 0].mean())
