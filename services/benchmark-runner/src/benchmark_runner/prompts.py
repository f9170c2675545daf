"""Seeded prompts of which no two begin alike, so that no cache answers for the model. Pure.

A prompt is a shuffle of one set of words: byte-pair tokenizers cut at spaces, so every shuffle has as many
tokens as the others, and one that was counted stands for all. Each begins with the same short word, since
only the first word has no space before it.
"""

import random

FIRST, FILLER = "a", "a"
# fmt: off
_WORDS = (
    "river", "stone", "amber", "cloud", "engine", "paper", "silver", "garden", "window",
    "mirror", "copper", "valley", "lantern", "harbor", "meadow", "planet", "timber", "violin",
    "pepper", "marble", "candle", "forest", "anchor", "bridge", "carbon", "desert", "ember",
    "falcon", "glacier", "hammer", "island", "jungle", "kettle", "ladder", "magnet", "needle",
    "orchid", "pillar", "quartz", "ribbon", "saddle", "temple", "umbrella", "velvet", "walnut",
)
# fmt: on


def text(seed: int, words: int, fillers: int = 0) -> str:
    """`words` shuffled words after the first one, then `fillers` short ones."""
    chosen = [_WORDS[number % len(_WORDS)] for number in range(max(0, words))]
    random.Random(seed).shuffle(chosen)  # noqa: S311  (reproducible, not secret)
    return " ".join([FIRST, *chosen, *[FILLER] * max(0, fillers)])


def seed_of(cell_seed: int, number: int) -> int:
    """The seed of a cell's `number`th prompt."""
    return cell_seed * 1_000_003 + number
