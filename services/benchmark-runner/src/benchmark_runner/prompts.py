"""Seeded prompts that share no prefix, so that no cache answers for the model. Pure."""

import random

# fmt: off
_WORDS = (
    "river", "stone", "amber", "cloud", "engine", "paper", "silver", "garden", "window",
    "mirror", "copper", "valley", "lantern", "harbor", "meadow", "planet", "timber", "violin",
    "pepper", "marble", "candle", "forest", "anchor", "bridge", "carbon", "desert", "ember",
    "falcon", "glacier", "hammer", "island", "jungle", "kettle", "ladder", "magnet", "needle",
    "orchid", "pillar", "quartz", "ribbon", "saddle", "temple", "umbrella", "velvet", "walnut",
)
# fmt: on


def text(seed: int, words: int) -> str:
    """`words` words in an order of their own; the first ones differ between any two seeds."""
    dice = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    head = f"{dice.getrandbits(64):x}"
    return " ".join([head, *dice.choices(_WORDS, k=max(0, words - 1))])


def seed_of(cell_seed: int, number: int) -> int:
    """The seed of a cell's `number`th prompt."""
    return cell_seed * 1_000_003 + number
