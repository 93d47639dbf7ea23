"""The pair rule: a duplicate shows the same pictures and says the same. Who is compared, who is preferred, what is decided.

    same pictures, same or near text                     duplicate: the preferred one stays
    same pictures, other question                        both stay; counted as picture reuse
    other pictures, whatever the text                    both stay
    same pictures and question, other answer             conflict: kept, or the preferred one stays, or none
    no pictures, same or near text                       duplicate

Items are what is compared: whole samples, or question-answer turns. Pictures are compared by a key, equal for the same pixels
in the same order. Where look-alikes count as the same pictures, items whose pictures *may* be alike (`groups`) are compared
too, and a match counts only when the pictures of these very two samples were verified against each other, place by place: never
through a third one's. Contradictions and picture reuse are told of the same pixels only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.dedup.buckets import Capped, Labels, Pairs, candidate_pairs, split_pairs
from curation.dedup.keepers import CONFLICTING, KEPT, NO_GROUP, NOBODY
from curation.dedup.look_alikes import NOT_ALIKE, LookAlikes
from curation.dedup.shingles import Hashes
from curation.mixture.dedup import DedupSpec
from curation.tables import Int64s, mix_bits

NO_PICTURES = np.uint64(0)
EXACT, NOT_COMPARED = 3, 4
"""States of items beside KEPT, NEAR and CONFLICTING."""

States = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Items:
    """All items of a pool, those of one sample side by side in the order of its turns.

    `sample` is the row of each item's sample in the table of samples; `turn` is -1 for a whole sample; `pictures` are keys
    (NO_PICTURES for none), `groups` keys that are equal where pictures may count as the same: for equal `pictures` at least.
    `takes_part` is false where the sample was dropped by itself.
    """

    sample: Int64s
    turn: Int64s
    pictures: Hashes
    groups: Hashes
    questions: Hashes
    answers: Hashes
    numbers: Hashes
    takes_part: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sample)


@dataclass(frozen=True, slots=True)
class Contest:
    """Items put in order: `order` lists those that take part, the preferred first. Equal ones are one entrant.

    `leader` gives for each place in `order` the place of the first equal item; `label` numbers the entrants by place, and is
    NOBODY for others. `labels` and `groups` are by item, as the join takes them; `rivals` by entrant, as the sweep does.
    """

    order: Int64s
    leader: Int64s
    label: Labels
    labels: Labels
    groups: Hashes
    rivals: Labels
    entrants: Int64s


def preferred(samples: pl.DataFrame, spec: DedupSpec) -> Int64s:
    """Rank of each sample (columns place, source, pixels, answer_chars), from 0 for the one that is kept before all.

    `place` is that of its sample_id among all: numbers sort in a fraction of the time of ten million ids.
    """
    priority = {name: number for number, name in enumerate(spec.sources)}
    columns = {"larger_image": "pixels", "longer_answer": "answer_chars"}
    names = samples["source"].unique()
    ranks = pl.DataFrame({"source": names, "priority": [priority.get(name, len(priority)) for name in names]})
    keyed = samples.with_row_index("row").join(ranks, on="source", how="left", maintain_order="left")
    keys = ["priority", *(columns[name] for name in spec.prefer), "place"]
    descending = [False, *(True for _ in spec.prefer), False]
    rows = keyed.sort(keys, descending=descending)["row"].to_numpy()
    rank = np.empty(len(rows), np.int64)
    rank[rows] = np.arange(len(rows))
    return rank


def contest(items: Items, rank: Int64s, spec: DedupSpec) -> Contest:
    """The items in order of `rank` (by sample), equal ones found, and who may not be kept together."""
    order = np.argsort(rank[items.sample], kind="stable")
    order = order[items.takes_part[order]]
    said = combined(items.pictures[order], items.questions[order], items.answers[order])
    leader = _first_places(said)
    for keys in (items.pictures, items.questions, items.answers):  # a collision of combined keys makes nobody a duplicate
        differs = keys[order[leader]] != keys[order]
        leader[differs] = np.flatnonzero(differs)
    entrants = np.flatnonzero(leader == np.arange(len(order)))
    label = np.full(len(order), NOBODY, np.uint32)
    label[entrants] = np.arange(len(entrants), dtype=np.uint32)
    labels = np.full(len(items), NOBODY, np.uint32)
    labels[order[entrants]] = label[entrants]
    numbers = items.numbers if spec.same_numbers else np.zeros(len(items), np.uint64)
    groups = combined(items.groups, numbers)
    rivals = np.full(len(entrants), NO_GROUP, np.uint32)
    if spec.conflicts == "prefer" and spec.key == "conversation":
        rivals = askers(items, order[entrants])
    return Contest(order, leader, label, labels, groups, rivals, entrants)


def askers(items: Items, chosen: Int64s) -> Labels:
    """A group for each chosen item, equal where pictures and question are; NO_GROUP for those that ask alone or without
    pictures: of those the words alone do not say that one answer must be wrong ("Write a poem.")."""
    asked = combined(items.pictures[chosen], items.questions[chosen])
    first = _first_places(asked)
    sizes = np.bincount(first, minlength=len(chosen))
    is_shared = (sizes[first] > 1) & (items.pictures[chosen] != NO_PICTURES)
    groups = np.full(len(chosen), NO_GROUP, np.uint32)
    groups[is_shared] = np.unique(first[is_shared], return_inverse=True)[1]
    return groups


def said_alike(items: Items, field: Contest, cap: int) -> tuple[Pairs, Capped]:
    """Pairs of entrants that say the very same on other pictures of their group, sorted; and what the `cap` on those to compare
    with left out. Texts too short for n-grams are among them, and all that `text: exact` asks for."""
    chosen = field.order[field.entrants]
    labels = np.flatnonzero(items.groups[chosen] != items.pictures[chosen]).astype(np.uint32)
    chosen = chosen[labels]
    pairs, capped = candidate_pairs(combined(items.groups[chosen], items.questions[chosen], items.answers[chosen]), labels, cap)
    one, other = (field.order[field.entrants[side]] for side in split_pairs(pairs))
    is_same = (items.questions[one] == items.questions[other]) & (items.answers[one] == items.answers[other])
    return pairs[is_same], capped


def show_the_same(items: Items, field: Contest, worse: Labels, better: Labels, looks: LookAlikes) -> npt.NDArray[np.bool_]:
    """For pairs of entrants whether they show the same pixels, or pictures that were verified to look alike."""
    one, other = (field.order[field.entrants[side]] for side in (worse, better))
    same: npt.NDArray[np.bool_] = items.pictures[one] == items.pictures[other]
    rest = np.flatnonzero(~same)
    same[rest] = looks.differing_bits(items.sample[one[rest]], items.sample[other[rest]]) != NOT_ALIKE
    return same


@dataclass(frozen=True, slots=True)
class Outcome:
    """By item: its state, and the item it goes with (-1 when kept, or dropped with all others)."""

    state: States
    keeper: Int64s


def outcome(items: Items, field: Contest, state: States, keeper: Labels, spec: DedupSpec) -> Outcome:
    """From the sweep's decision on entrants (by label) to one on every item. Equal items share their entrant's fate."""
    state, keepers = state.copy(), np.where(keeper == NOBODY, -1, keeper.astype(np.int64))
    entrant_items = field.order[field.entrants]
    if spec.conflicts == "drop_all" and spec.key == "conversation":
        kept = np.flatnonzero(state == KEPT)
        conflicting = kept[askers(items, entrant_items[kept]) != NO_GROUP]
        state[conflicting] = CONFLICTING
        with_them = np.flatnonzero(keepers >= 0)
        with_them = with_them[state[keepers[with_them]] == CONFLICTING]
        state[with_them], keepers[with_them] = CONFLICTING, -1
    own = field.label[field.leader]
    by_place = state[own]
    keeper_items = np.where(keepers[own] >= 0, entrant_items[keepers[own]], -1) if len(own) else np.zeros(0, np.int64)
    is_copy = (by_place == KEPT) & (field.leader != np.arange(len(field.order)))
    by_place[is_copy] = EXACT
    keeper_items[is_copy] = field.order[field.leader[is_copy]]
    states, keeper_of = np.full(len(items), NOT_COMPARED, np.uint8), np.full(len(items), -1, np.int64)
    states[field.order], keeper_of[field.order] = by_place, keeper_items
    return Outcome(states, keeper_of)


def picture_reuse(items: Items, decided: Outcome) -> dict[str, int]:
    """How many samples that are kept share their pictures with others that ask something else, and over how many pictures."""
    kept = np.flatnonzero((decided.state == KEPT) & (items.pictures != NO_PICTURES))
    shown = pl.DataFrame({"pictures": items.pictures[kept], "sample": items.sample[kept]}).unique()
    reused = shown.group_by("pictures").len().filter(pl.col("len") > 1)
    return {"pictures": len(reused), "samples": int(reused["len"].sum())}


def combined(*keys: Hashes) -> Hashes:
    """One key of several, equal where all of them are."""
    found = mix_bits(keys[0])
    for key in keys[1:]:
        found = mix_bits((found * np.uint64(3)) ^ key)
    return found


def _first_places(keys: Hashes) -> Int64s:
    """For each place the first with the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.concatenate([np.ones(min(1, len(keys)), np.bool_), ordered[1:] != ordered[:-1]])
    firsts = np.empty(len(keys), np.int64)
    firsts[order] = order[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return firsts
