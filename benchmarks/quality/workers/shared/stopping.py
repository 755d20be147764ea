"""Training under a budget of processor seconds, stopped where held-out pairs say: the same for every neural peer.

U users, N items.
"""

import time

import numpy as np

CHECKS = 25  # looks at what is held out in a whole budget, at most
PATIENCE = 6  # looks without a better one before training stops
EACH_MORE = 0.04  # without a budget: the share that training has gone on by when it is looked at again
LAST_PATIENCE = 12  # looks without a better one then: training went on for some 1.6 times as long


def train(model, run_epoch, scores, pairs, watch, metric, budget_s, epochs=None):
    """Train for `epochs`, or where there are none until nothing improves or the budget is spent; the best weights stay
    in the model.

    model: torch module. run_epoch: called with the number of the epoch. scores: () -> float32 [U, N] of the train
    histories.
    pairs, watch: CSR [U, N], hidden and sought. metric: NDCG@k, R@k or accuracy@k.
    budget_s: None to go on for as long as it takes.
    Returns the report: the epochs found, and of each look (processor seconds of training, without the looks; epoch;
    value).
    """
    started, patience = time.process_time(), LAST_PATIENCE if budget_s is None else PATIENCE
    trained, trace, best, best_epoch, state, last_look, epoch = 0.0, [], -1.0, 0, None, 0.0, 0
    while epoch < (epochs or 10_000):
        begun = time.process_time()
        run_epoch(epoch)
        trained += time.process_time() - begun
        epoch += 1
        spent = time.process_time() - started
        due = EACH_MORE * last_look if budget_s is None else min(budget_s / CHECKS, budget_s - last_look)
        if epochs is not None or spent - last_look < due:
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
        is_spent = budget_s is not None and spent >= budget_s
        if is_spent or sum(look[1] > best_epoch for look in trace) >= patience:
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
