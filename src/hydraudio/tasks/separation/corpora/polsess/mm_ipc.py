"""MM-IPC: from the components of one PolSESS row to a model input and its targets.

Mix Modification by Inverted Phase Cancellation (Kleć, Szklanny and Wieczorkowska, 2024) removes components
from a mix by adding them with inverted phase. The letters of a variant name what is *kept* beside the dry
speech: S scene, E event, R reverberation (the event's reverb is kept only together with the event), C
    nothing.

    indoor : mix = sp1 + sp2 + scene + event + sp1_reverb + sp2_reverb + ev_reverb      variants SER SR ER R C
    outdoor: mix = sp1 + sp2 + scene + event                                            variants SE S E C

The same signal can be had by subtracting what is not kept from the mix, or by adding what is kept. Both
need the targets' files as well; `recipe` takes the one with fewer files (on a tie the sum, which carries less
rounding noise).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hydraudio.core.options import check_choice

PROBLEMS = ("ES", "EB", "SB")
"""Enhance a single talker, enhance both talkers (one sum), separate both talkers."""

INDOOR_VARIANTS = ("SER", "SR", "ER", "R", "C")
OUTDOOR_VARIANTS = ("SE", "S", "E", "C")
VARIANTS = tuple(dict.fromkeys(INDOOR_VARIANTS + OUTDOOR_VARIANTS))

CONSTRUCTIONS = ("auto", "subtract", "add")

OUTDOOR_PARTS = ("sp1", "sp2", "scene", "event")
INDOOR_PARTS = (*OUTDOOR_PARTS, "sp1_reverb", "sp2_reverb", "ev_reverb")
COMPONENTS = ("mix", *INDOOR_PARTS)
DRY_OF = {"sp1_reverb": "sp1", "sp2_reverb": "sp2", "ev_reverb": "event"}

_EXCHANGED = {"sp1": "sp2", "sp2": "sp1", "sp1_reverb": "sp2_reverb", "sp2_reverb": "sp1_reverb"}


@dataclass(frozen=True)
class Recipe:
    """How one input and its targets are made.

    Attributes:
        mixture: (component, +1 or -1) of every term of the input.
        targets: per source, the components whose sum is the target.
    """

    mixture: tuple[tuple[str, int], ...]
    targets: tuple[tuple[str, ...], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The components that must be read, each once."""
        terms = [component for component, _ in self.mixture]
        return tuple(dict.fromkeys([*terms, *(part for target in self.targets for part in target)]))


@cache
def recipe(problem: str, variant: str, indoor: bool, construction: str = "auto", exchanged: bool = False) -> Recipe:
    """Return the recipe of a (problem, variant) for an indoor or an outdoor row.

    Args:
        construction: "subtract" from the mix, "add" the kept parts, or "auto" for the one that reads fewer
            files.
        exchanged: let speaker 1 and speaker 2 change places, reverbs included.

    >>> recipe("ES", "SE", indoor=False).files
    ('sp1', 'scene', 'event')
    """
    if variant not in _variants_of(indoor):
        place, choices = ("indoor", INDOOR_VARIANTS) if indoor else ("outdoor", OUTDOOR_VARIANTS)
        raise ValueError(f"variant {variant!r} does not fit an {place} row; choose from {', '.join(choices)}")
    if construction == "auto":
        options = [recipe(problem, variant, indoor, name, exchanged) for name in ("add", "subtract")]
        return min(options, key=lambda option: len(option.files))
    kept = kept_parts(problem, variant, indoor)
    if construction == "add":
        terms = [(part, 1) for part in kept]
    else:
        terms = [("mix", 1)] + [(part, -1) for part in parts_of(indoor) if part not in kept]
    plain = Recipe(tuple(terms), _TARGETS[check_problem(problem)])
    return _exchange(plain) if exchanged else plain


_TARGETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ES": (("sp1",),),
    "EB": (("sp1", "sp2"),),
    "SB": (("sp1",), ("sp2",)),
}


def n_sources(problem: str) -> int:
    """Return the number of targets: 1 for ES and EB, 2 for SB."""
    return len(_TARGETS[check_problem(problem)])


def kept_parts(problem: str, variant: str, indoor: bool) -> tuple[str, ...]:
    """Return the parts that are in the input, in the order of `parts_of`.

    >>> kept_parts("SB", "SE", indoor=False)
    ('sp1', 'sp2', 'scene', 'event')
    """
    talkers = ("sp1",) if check_problem(problem) == "ES" else ("sp1", "sp2")
    kept = set(talkers)
    if "S" in variant:
        kept.add("scene")
    if "E" in variant:
        kept.add("event")
    if "R" in variant:
        kept.update(f"{talker}_reverb" for talker in talkers)
    if "R" in variant and "E" in variant:
        kept.add("ev_reverb")
    return tuple(part for part in parts_of(indoor) if part in kept)


def parts_of(indoor: bool) -> tuple[str, ...]:
    """Return the parts whose sum is the mix."""
    return INDOOR_PARTS if indoor else OUTDOOR_PARTS


def is_degenerate(problem: str, variant: str) -> bool:
    """Say whether the input equals the target, so that an improvement over it means nothing (C of ES and EB)."""
    return variant == "C" and n_sources(problem) == 1


def compatible_variants(indoor: bool, allowed: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the variants that fit the row, among the allowed ones (None = all), in canonical order."""
    fitting = _variants_of(indoor)
    return fitting if allowed is None else tuple(name for name in fitting if name in set(allowed))


def needed_components(
    problem: str, variants: Iterable[str], indoor: bool, construction: str = "auto", exchangeable: bool = False
) -> set[str]:
    """Return everything that may have to be read for these variants."""
    orders = (False, True) if exchangeable else (False,)
    recipes = [recipe(problem, name, indoor, construction, order) for name in variants for order in orders]
    return {component for each in recipes for component in each.files}


def sampling_weights(variants: Sequence[str], weights: Mapping[str, float] | None) -> np.ndarray:
    """Return the probabilities of `variants`, shape (n,); a variant without a weight counts 1."""
    raw = np.array([1.0 if weights is None else float(weights.get(name, 1.0)) for name in variants])
    return raw / raw.sum()


def pick_variant(variants: Sequence[str], probabilities: np.ndarray, uniform: float) -> str:
    """Return the variant that a number in [0, 1) selects (inverse of the cumulative distribution)."""
    cumulative = np.cumsum(probabilities)
    # divided by its last value, so that rounding cannot leave a gap below 1
    return variants[int(np.searchsorted(cumulative / cumulative[-1], uniform, side="right"))]


def stable_variant(name: str, variants: Sequence[str]) -> str:
    """Return one variant per name, independent of order and of other rows.

    The variant with the highest hash of (name, variant) wins, so forbidding a variant moves only the rows
    that had it.
    """
    return max(variants, key=lambda variant: hashlib.blake2b(f"{name}/{variant}".encode(), digest_size=8).digest())


def check_problem(problem: str) -> str:
    """Return the problem, or raise ValueError with the valid ones."""
    return check_choice("problem", problem, PROBLEMS)


def check_variants(names: str | Iterable[str] | None, argument: str) -> tuple[str, ...] | None:
    """Validate one variant or a list of them; None stays None.

    Raises:
        ValueError: an empty list or an unknown variant (the message names the nearest).
    """
    if names is None:
        return None
    if isinstance(names, str):
        names = [names]
    checked = tuple(dict.fromkeys(check_choice(argument, name, VARIANTS) for name in names))
    if not checked:
        raise ValueError(f"{argument} is empty; name at least one of {', '.join(VARIANTS)}, or null for all")
    return checked


def _variants_of(indoor: bool) -> tuple[str, ...]:
    return INDOOR_VARIANTS if indoor else OUTDOOR_VARIANTS


def _exchange(plain: Recipe) -> Recipe:
    return Recipe(
        tuple((_EXCHANGED.get(component, component), sign) for component, sign in plain.mixture),
        tuple(tuple(_EXCHANGED.get(part, part) for part in target) for target in plain.targets),
    )
