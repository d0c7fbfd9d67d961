"""Make a bundle of the size of a real shop for the serving benchmark, without a week of training.

The sizes are a real shop's (105,542 articles, 1.37 million customers, histories of up to 64 purchases); what is in the
tables is drawn at random, and so are the ranker's weights. The graph is the one that training exports, the files are
written and certified by training's own code: only the recommendations mean nothing. What an answer costs depends on the
sizes, not on what is in them.
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import torch

from inference.bundle import seal_bundle
from pipelines.recommender.export import MAX_TOP_K, certify_parity, write_bundle_files
from pipelines.recommender.interactions import ATTRIBUTES, Catalogue, Interactions
from pipelines.recommender.model import SIGNAL_GROUPS, Ranker, Recommender
from pipelines.recommender.shop import Shop
from pipelines.recommender.signals import RANKER_FEATURES, Signals
from pipelines.recommender.tables import N_SEGMENTS, STATIC_FEATURES, Tables
from pipelines.steps.fingerprint import code_sha256

N_ARTICLES, N_CUSTOMERS = 105_542, 1_371_980
# What training chooses for a shop of this size and kind (pipelines.recommender.hyperparameters).
MAX_HISTORY, N_CANDIDATES, N_SIBLINGS, N_NEIGHBOURS, HIDDEN = 64, 256, 8, 16, 32
# Distinct values of each attribute in a real catalogue, in the order of ATTRIBUTES.
N_VALUES = (131, 19, 30, 50, 20, 250, 10, 5, 56, 21)
N_DAYS = 734  # of a real shop: the last is trained_through below
FIRST_DAY = date(2018, 9, 20)
MEAN_HISTORY = 23.0
SEED = 7


def draw_shop(rng: np.random.Generator, n_articles: int, n_customers: int) -> Shop:
    """Draw a shop: few customers buy much, new articles sell most, a tenth of all customers never bought."""
    lengths = rng.geometric(1 / MEAN_HISTORY, n_customers)
    lengths[rng.random(n_customers) < 0.1] = 0
    lengths = np.minimum(lengths, 128)
    customer = np.repeat(np.arange(n_customers, dtype=np.int32), lengths)
    n_rows = len(customer)
    # Sorted by customer, then day: one key for both.
    day = rng.integers(0, N_DAYS, n_rows, dtype=np.int32)
    day = (np.sort(customer.astype(np.int64) * N_DAYS + day) % N_DAYS).astype(np.int32)
    popularity = rng.permuted(1 / np.arange(10, n_articles + 10))
    article = rng.choice(n_articles, n_rows, p=popularity / popularity.sum()).astype(np.int32)
    interactions = Interactions(
        customer=customer,
        article=article,
        day=day,
        price=rng.uniform(0.005, 0.1, n_rows).astype(np.float32),
        channel=np.ones(n_rows, np.int8),
        n_customers=n_customers,
        n_articles=n_articles,
    )
    attributes_AV = np.stack([rng.integers(0, size, n_articles) for size in N_VALUES], axis=1).astype(np.int32)
    catalogue = Catalogue(
        article_ids=[f"{100_000_000 + 7 * index:010d}" for index in range(n_articles)],
        product_A=(np.arange(n_articles) // 2).astype(np.int32),
        attributes_AV=attributes_AV,
        names=[f"Article {index}" for index in range(n_articles)],
    )

    def named(attribute: str) -> list[str]:
        return [f"{attribute} {value}" for value in attributes_AV[:, ATTRIBUTES.index(attribute)].tolist()]

    return Shop(
        interactions=interactions,
        catalogue=catalogue,
        customer_ids=[customer_name(number) for number in range(n_customers)],
        segments=rng.integers(1, N_SEGMENTS, n_customers).astype(np.uint8),
        first_day=FIRST_DAY,
        product_types=named("product_type"),
        colours=named("colour_group"),
        index_groups=named("index_group"),
        garment_groups=named("garment_group"),
        product_groups=named("product_group"),
    )


def customer_name(number: int) -> str:
    """Name a customer as a shop does: 64 hex digits."""
    return f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{number:048x}"


def draw_tables(rng: np.random.Generator, n_articles: int, n_live: int) -> Tables:
    """Draw one day's tables."""
    live_N = np.sort(rng.choice(n_articles, n_live, replace=False)).astype(np.int64)
    position_A1 = np.full(n_articles + 1, n_live, np.int64)
    position_A1[live_N] = np.arange(n_live)
    sizes = np.concatenate([[0], np.cumsum(N_VALUES)])
    attributes_AV = np.stack([rng.integers(0, size, n_articles) for size in N_VALUES], axis=1) + sizes[:-1]
    weights_AM = np.sort(rng.random((n_articles + 1, N_NEIGHBOURS), np.float32), axis=1)[:, ::-1]
    siblings_AK = rng.integers(0, n_live + 1, (n_articles + 1, N_SIBLINGS))
    neighbours_AM = rng.integers(0, n_live + 1, (n_articles + 1, N_NEIGHBOURS))
    siblings_AK[-1], neighbours_AM[-1] = n_live, n_live  # padding touches nothing
    return Tables(
        day=N_DAYS,
        n_articles=n_articles,
        live_N=live_N,
        position_A1=position_A1,
        static_NF=rng.normal(size=(n_live, len(STATIC_FEATURES))).astype(np.float32),
        retrieval_SN=rng.normal(-9, 2, (N_SEGMENTS, n_live)).astype(np.float32),
        siblings_AK=siblings_AK,
        neighbours_AM=neighbours_AM,
        neighbour_weights_AM=weights_AM * np.float32(0.1),
        attributes_A1V=np.concatenate([attributes_AV, np.full((1, len(N_VALUES)), sizes[-1])]).astype(np.int64),
        attribute_shares_X=np.append(rng.dirichlet(np.ones(sizes[-1])), 1.0).clip(1e-6).astype(np.float32),
        log_price_A1=rng.normal(-3.5, 0.5, n_articles + 1).astype(np.float32),
    )


def write_bundle(folder: Path, shop: Shop, n_live: int, version: str) -> None:
    """Write, certify and seal one bundle."""
    rng = np.random.default_rng(SEED + n_live)
    torch.manual_seed(SEED)
    n_features = len(RANKER_FEATURES)
    ranker = Ranker(torch.zeros(n_features), torch.ones(n_features), HIDDEN, dropout=0.0)
    for weights in ranker.parameters():
        torch.nn.init.normal_(weights, std=0.02)
    # As in a fitted one, what is retrieved last is not ranked first: there rounding decides what is a candidate.
    with torch.no_grad():
        ranker.linear.weight[0, RANKER_FEATURES.index("segment_popularity")] = 1.0
    signals = Signals(draw_tables(rng, shop.catalogue.n_articles, n_live), N_CANDIDATES)
    recommender = Recommender(signals, ranker).eval()
    folder.mkdir(parents=True)
    write_bundle_files(folder, recommender, shop, N_DAYS, MAX_HISTORY)
    facts = {
        "version": version,
        "cutoff_date": "2020-09-16",
        "trained_through": "2020-09-22",
        "max_history": MAX_HISTORY,
        "max_top_k": MAX_TOP_K,
        "signals": list(SIGNAL_GROUPS),
    }
    seal_bundle(folder, facts)
    parity = certify_parity(folder, recommender, shop, N_DAYS, MAX_HISTORY)
    seal_bundle(folder, facts | {"parity": parity})


def bundle_of_size(work: Path, *, n_articles: int, n_customers: int, n_live: int) -> Path:
    """Give the bundle of these sizes below `work`, made if it is not there yet; with bodies.json beside it."""
    made_by = code_sha256("pipelines.recommender")[:8] + code_sha256("benchmarks.servers.bundle")[:4]
    name = f"bundle-{made_by}-{n_articles}-{n_live}-{n_customers}"  # another graph is never measured as today's
    folder = work / name
    if (folder / "manifest.json").exists():
        return folder
    partial = work / f".partial-{name}"
    shutil.rmtree(partial, ignore_errors=True)
    rng = np.random.default_rng(SEED)
    shop = draw_shop(rng, n_articles, n_customers)
    write_bundle(partial, shop, n_live, name)
    partial.rename(folder)
    return folder


def write_bodies(path: Path, n_customers: int, n_bodies: int = 5000) -> Path:
    """Write requests: of ten, eight for customers of the shop, one for a stranger with a basket, one for nobody."""
    rng = np.random.default_rng(SEED)
    bodies = []
    for number in rng.integers(0, n_customers, n_bodies).tolist():
        kind = number % 10
        body: dict[str, object] = {"customer_id": customer_name(number), "top_k": 12}
        if kind == 8:
            articles = rng.integers(0, 10_000, 5).tolist()
            body = {"article_ids": [f"{100_000_000 + 7 * index:010d}" for index in articles], "top_k": 12}
        elif kind == 9:
            body = {"top_k": 12}
        bodies.append(json.dumps(body))
    path.write_text(json.dumps(bodies))
    return path


def main() -> None:
    """Make one bundle and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.bundle")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--articles", type=int, default=N_ARTICLES)
    parser.add_argument("--customers", type=int, default=N_CUSTOMERS)
    parser.add_argument("--live", type=int, default=N_ARTICLES // 5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_bodies(options.work / f"bodies-{options.customers}.json", options.customers)
    print(bundle_of_size(options.work, n_articles=options.articles, n_customers=options.customers, n_live=options.live))


if __name__ == "__main__":
    main()
