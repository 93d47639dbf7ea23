"""From counts and a mixture spec to quotas: how many samples each source gives. Arithmetic only, no data.

Quotas are whole numbers by largest remainder; ties go to the earlier name, so equal inputs give equal plans.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.catalog.spec import Category
from curation.errors import PlanError
from curation.mixture.spec import Mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """What one source gives: `picked` distinct of its `available` samples, `samples` with repeats.

    `offered` are those under its caps, of which the plan picks; `cap` is the most from one unit of it (None: no cap).
    """

    source: str
    category: Category
    available: int
    offered: int
    picked: int
    samples: int
    cap: int | None = None

    @property
    def epochs(self) -> float:
        """How often the source is gone through: samples of it, repeats counted, for each one available."""
        return self.samples / self.available if self.available else 0.0

    @property
    def repeat(self) -> int:
        """How often its most frequent sample appears."""
        return -(-self.samples // self.picked) if self.picked else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The quotas of a mixture, by source name, and what a person should know before building it."""

    mixture: str
    quotas: Mapping[str, Quota]
    warnings: Sequence[str]

    @property
    def total(self) -> int:
        """Samples in the mixture, repeats counted."""
        return sum(quota.samples for quota in self.quotas.values())


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a source can give: `distinct` samples under its caps, `base` with its own repeats, `limit` at the very most.

    `weight`: what its share is in proportion to, where shares are divided.
    """

    source: str
    category: Category
    available: int
    cap: int | None
    distinct: int
    base: int
    limit: int
    weight: float


def plan(
    mixture: Mixture,
    available: Mapping[str, int],
    categories: Mapping[str, Category],
    files: Mapping[str, Mapping[str, int]] | None = None,
) -> Plan:
    """Quotas for a mixture over the sources that take part in it, with `available` samples each.

    `files`: the same by annotation file, needed where the cap counts by them; a source that is not there is one file. Raises
    PlanError when the size or a category's share cannot be met, with the figures that could be.
    """
    distinct = {name: _distinct(mixture, name, available[name], categories[name], files or {}) for name in sorted(available)}
    for category, rule in mixture.categories.items():
        if rule.total is not None:
            distinct |= _under_total(rule.total, {name: distinct[name] for name in distinct if categories[name] == category})
    offers = [_offer(mixture, name, available[name], categories[name], number) for name, number in distinct.items()]
    shares = mixture.shares()
    samples = _by_size(mixture, offers) if shares is None else _by_ratio(mixture, offers, shares)
    quotas = {
        offer.source: Quota(
            source=offer.source,
            category=offer.category,
            available=offer.available,
            offered=offer.distinct,
            picked=min(offer.distinct, samples[offer.source]),
            samples=samples[offer.source],
            cap=offer.cap,
        )
        for offer in offers
    }
    return Plan(mixture.name, quotas, [*_held_back(mixture, offers, samples), *_warnings(mixture, quotas)])


def _distinct(mixture: Mixture, source: str, available: int, category: Category, files: Mapping[str, Mapping[str, int]]) -> int:
    take = mixture.rule(source).take
    if take is not None and take > available:
        raise PlanError(
            f"mixture '{mixture.name}': source '{source}' should give {take:,} samples but holds {available:,} after "
            f"cleaning, de-duplication and `where`; lower `take` to at most {available:,}",
            ("sources", source, "take"),
        )
    if take is not None:
        return take
    cap = mixture.cap_of(source, category)
    if cap is None:
        return available
    if mixture.cap_unit == "annotation_file" and source in files:
        return sum(min(number, cap) for number in files[source].values())
    return min(available, cap)


def _under_total(total: int, distinct: Mapping[str, int]) -> dict[str, int]:
    """`total` shared among the sources of a category in proportion to what they hold, where they hold more."""
    if sum(distinct.values()) <= total:
        return dict(distinct)
    return dict(zip(distinct, largest_remainder(total, list(distinct.values())), strict=True))


def _offer(mixture: Mixture, source: str, available: int, category: Category, distinct: int) -> _Offer:
    rule = mixture.rule(source)
    base = distinct * rule.repeat
    weight = (base**mixture.alpha if base else 0.0) * rule.weight * mixture.category_rule(category).weight
    limit = distinct * max(rule.repeat, mixture.max_repeat)
    return _Offer(source, category, available, mixture.cap_of(source, category), distinct, base, limit, weight)


def _by_size(mixture: Mixture, offers: Sequence[_Offer]) -> dict[str, int]:
    if mixture.size is None and mixture.is_weighted:
        return _divide(_largest_weighted(offers), offers)
    if mixture.size is None:
        return {offer.source: offer.base for offer in offers}
    most = sum(offer.limit for offer in offers)
    if mixture.size > most:
        raise PlanError(
            f"mixture '{mixture.name}': size {mixture.size:,} is more than its sources give ({most:,} with cap "
            f"{_shown(mixture.cap)} and max_repeat {mixture.max_repeat}); lower `size` to at most {most:,}, or raise "
            f"`max_repeat` to {_repeat_needed(mixture.size, offers)}",
            ("size",),
        )
    return _divide(mixture.size, offers)


def _largest_weighted(offers: Sequence[_Offer]) -> int:
    """The most samples at which no source must give more than it offers to have its share."""
    whole = math.fsum(offer.weight for offer in offers)
    return min((int(offer.base * whole / offer.weight * (1 + 1e-12)) for offer in offers if offer.weight), default=0)


def _by_ratio(mixture: Mixture, offers: Sequence[_Offer], shares: Mapping[Category, float]) -> dict[str, int]:
    members = {category: [offer for offer in offers if offer.category is category] for category in shares}
    size = mixture.size if mixture.size is not None else _largest_size(members, shares)
    names = sorted(shares)
    if empty := [name for name in names if not any(offer.limit for offer in members[name])]:
        raise PlanError(
            f"mixture '{mixture.name}': category '{empty[0]}' has a share, but its {len(members[empty[0]])} sources hold no "
            f"samples; ingest some or take '{empty[0]}' out of `ratios`",
            ("ratios", empty[0].value),
        )
    quotas = dict(zip(names, largest_remainder(size, [shares[name] for name in names]), strict=True))
    for category in names:
        if quotas[category] > sum(offer.limit for offer in members[category]):
            raise _too_small(mixture, category, quotas[category], members[category], size, _largest_size(members, shares))
    samples = {offer.source: 0 for offer in offers}
    for category in names:
        samples |= _divide(quotas[category], members[category])
    return samples


def _largest_size(members: Mapping[Category, Sequence[_Offer]], shares: Mapping[Category, float]) -> int:
    """The most samples that every category can fill its share of; rounding is left room for."""
    sizes = (int(sum(offer.limit for offer in members[name]) / share) for name, share in shares.items())
    size = min(sizes)
    while size > 0:
        quotas = zip(sorted(shares), largest_remainder(size, [shares[name] for name in sorted(shares)]), strict=True)
        if all(quota <= sum(offer.limit for offer in members[name]) for name, quota in quotas):
            break
        size -= 1
    return size


def _too_small(
    mixture: Mixture, category: Category, quota: int, offers: Sequence[_Offer], size: int, largest: int
) -> PlanError:
    """`largest` is a size at which every category can fill its share."""
    most = sum(offer.limit for offer in offers)
    ratio = math.floor(most / size * 1e6) / 1e6
    available = sum(offer.available for offer in offers)
    ways = [f"lower its ratio to at most {ratio:.6g}", f"raise `max_repeat` to {_repeat_needed(quota, offers)}"]
    if largest:
        ways.append(f"lower `size` to at most {largest:,}")
    if mixture.cap is not None and available > most:
        ways.append("raise `cap`")
    held = f"{len(offers)} sources hold {most:,} of {available:,} samples after the cap of {_shown(mixture.cap)}"
    return PlanError(
        f"mixture '{mixture.name}': category '{category}' needs {quota:,} samples but its {held} "
        f"and max_repeat {mixture.max_repeat}; {', or '.join(ways)}",
        ("ratios", category.value),
    )


def _repeat_needed(wanted: int, offers: Sequence[_Offer]) -> str:
    distinct = sum(offer.distinct for offer in offers)
    return f"{-(-wanted // distinct)}" if distinct else "any number (there are no samples)"


def _divide(quota: int, offers: Sequence[_Offer]) -> dict[str, int]:
    """`quota` over sources in proportion to their weights, none beyond its limit; their limits suffice in all."""
    samples: dict[str, int] = {offer.source: 0 for offer in offers}
    open_offers = list(offers)
    while True:
        parts = largest_remainder(quota, [offer.weight for offer in open_offers])
        over = {offer.source for offer, part in zip(open_offers, parts, strict=True) if part > offer.limit}
        if not over:
            return samples | {offer.source: part for offer, part in zip(open_offers, parts, strict=True)}
        for offer in open_offers:
            if offer.source in over:
                samples[offer.source] = offer.limit
                quota -= offer.limit
        open_offers = [offer for offer in open_offers if offer.source not in over]


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, each within one of its exact share; ties go to the earlier weight."""
    whole = math.fsum(weights)
    if whole <= 0:
        if total:
            raise PlanError(f"{total:,} samples cannot be shared among sources that hold none")
        return [0] * len(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [math.floor(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda place: (parts[place] - exact[place], place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts


def _held_back(mixture: Mixture, offers: Sequence[_Offer], samples: Mapping[str, int]) -> list[str]:
    """Sources whose weight asks for more than they may give, so that others of their category give more."""
    if not mixture.is_weighted:
        return []
    found: list[str] = []
    groups = {offer.category: 0.0 for offer in offers} if mixture.ratios is not None else {}
    for offer in offers:
        peers = [other for other in offers if not groups or other.category is offer.category]
        whole = math.fsum(other.weight for other in peers)
        wanted = round(sum(samples[other.source] for other in peers) * offer.weight / whole) if whole else 0
        if samples[offer.source] == offer.limit and wanted > offer.limit:
            found.append(
                f"source '{offer.source}' would give {wanted:,} samples by its weight, but gives {offer.limit:,} at most; "
                "the others give the rest"
            )
    return found


def _warnings(mixture: Mixture, quotas: Mapping[str, Quota]) -> list[str]:
    found: list[str] = []
    for name, quota in quotas.items():
        if quota.available == 0:
            found.append(f"source '{name}' has no samples to give")
        elif quota.samples == 0:
            found.append(f"source '{name}' gives nothing: its category '{quota.category}' has no share")
        elif quota.repeat > max(mixture.rule(name).repeat, mixture.warn_repeat):
            found.append(f"source '{name}' is repeated: {quota.picked:,} samples appear up to {quota.repeat} times")
    by_category: dict[Category, list[str]] = {}
    for name, quota in quotas.items():
        if quota.samples:
            by_category.setdefault(quota.category, []).append(name)
    for category, names in sorted(by_category.items()):
        if len(names) == 1 and len(quotas) > 1:
            found.append(f"category '{category}' comes from one source only: '{names[0]}'")
    return found


def _shown(cap: int | None) -> str:
    return "none" if cap is None else f"{cap:,}"
