"""The questions of the first screen, and which stored numbers answer them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """One number of a benchmark that answers a question, beside the best of its peers."""

    label: str  # as a reader would say it
    benchmark: str
    case: str
    metric: str
    contender: str = "ours"
    peer: str = ""  # prefix of the contender that stands beside ours; empty = the best of the peers, whoever it is
    less_is_better: bool = False


@dataclass(frozen=True)
class Question:
    """A question that somebody has who has to choose a recommender."""

    name: str  # of its picture
    title: str
    headlines: tuple[Headline, ...]


QUESTIONS = (
    Question(
        "good",
        "How good are the lists?",
        (
            Headline("MovieLens-1M, Recall@20", "quality", "ML1M-U", "R@20"),
            Headline("MovieLens-1M, NDCG@20", "quality", "ML1M-U", "NDCG@20"),
            Headline("Last.fm-2K with content, Recall@20", "quality", "LFM", "R@20"),
            Headline("MovieLens-100K, random 8:1:1, NDCG@10", "quality", "ML100K-R", "NDCG@10"),
            Headline("MovieLens-100K, 75:25, NDCG@10", "quality", "ML100K-S", "NDCG@10"),
            Headline("MovieLens-100K, last item by time, NDCG@10", "quality", "ML100K-T", "NDCG@10"),
            Headline("TFRS tutorial's split, seen hidden, accuracy@100", "quality", "TFRS-A-hidden", "accuracy@100"),
            Headline("ranker, MovieLens-100K, AUC", "ranking", "movielens-100k", "AUC"),
            Headline("ranker, demo world, AUC", "ranking", "demo", "AUC"),
        ),
    ),
    Question(
        "cold",
        "How good for items that nobody has played?",
        (
            Headline("Last.fm-2K, cold artists, Recall@20", "cold", "LFM-cold", "R@20"),
            Headline("Last.fm-2K, cold artists, NDCG@20", "cold", "LFM-cold", "NDCG@20"),
            Headline("demo world, all modalities, NDCG@10", "demo", "fused", "NDCG@10"),
            Headline("tags told from the content, Last.fm-2K, mAP", "tags", "LFM-cold", "mAP", peer="frequency"),
        ),
    ),
    Question(
        "fast",
        "How fast?",
        (
            Headline("search in 100,000 items, queries/s at recall .95", "ann", "100k", "qps_at_recall_0.95"),
            Headline("search in 1,000,000 items, queries/s at recall .95", "ann", "1M", "qps_at_recall_0.95"),
            Headline("sound of whole clips, times real time", "media", "audio_clips", "times_real_time"),
            Headline("sound of full tracks, times real time", "media", "audio_full_tracks", "times_real_time"),
            Headline(
                "training to the best linear peer's quality, cpu seconds",
                "quality",
                "ML1M-U",
                "cpu_seconds_to_best_linear",
                less_is_better=True,
            ),
            Headline(
                "one answer, 100,000 items, 100 requests/s, p99 ms",
                "serving",
                "full_100k_100rps",
                "p99_ms",
                less_is_better=True,
            ),
            Headline(
                "one answer, 100,000 items, 200 requests/s, p99 ms",
                "serving",
                "full_100k_200rps",
                "p99_ms",
                less_is_better=True,
            ),
        ),
    ),
    Question(
        "far",
        "How far does it go?",
        (
            Headline(
                "800,000 interactions, one fit, cpu seconds",
                "growth",
                "events_100",
                "cpu_seconds",
                less_is_better=True,
            ),
            Headline(
                "80,000 interactions, one fit, cpu seconds", "growth", "events_10", "cpu_seconds", less_is_better=True
            ),
            Headline(
                "100,000 events through the whole line, cpu seconds",
                "scale",
                "100k",
                "cpu_seconds",
                peer="another whole line",
                less_is_better=True,
            ),
            Headline(
                "1,000,000 items, 50 requests/s, p99 ms", "serving", "full_1M_50rps", "p99_ms", less_is_better=True
            ),
            Headline(
                "a new item shown, 100,000 items, seconds",
                "refresh",
                "100k",
                "add_to_searchable_s",
                less_is_better=True,
            ),
        ),
    ),
)
