"""What the clients of the load test send: prompts to continue, and prose of a wanted length that no model wrote."""

from __future__ import annotations

from random import Random

PROMPTS = (
    "The harbour was quiet that morning, and",
    "The committee met on Tuesday to discuss the plan, and",
    "When my grandmother moved into the house by the canal,",
    "Visitors to the valley are often surprised to learn that",
    "The first thing to check when a bicycle brake squeaks is",
    "After three days of rain the road to the village",
    "In a statement on Friday the museum said that",
    "Good bread needs little more than flour, water and",
    "The two companies have worked together since",
    "Nobody in the orchestra had expected the conductor to",
    "The oldest map of the island shows",
    "To repair the roof before winter, the owners",
)

SUBJECTS = (
    "the old teacher", "my neighbour", "a young engineer", "the baker", "our guide", "the mayor", "her cousin",
    "the editor", "a retired sailor", "the gardener", "the whole family", "the night porter",
)  # fmt: skip
VERBS = (
    "remembered", "repaired", "described", "painted", "sold", "found", "measured", "photographed", "forgot", "carried",
    "hid", "argued about",
)  # fmt: skip
OBJECTS = (
    "the broken clock", "a letter from abroad", "the wooden bridge", "an unfinished map", "two boxes of apples",
    "the church organ", "a borrowed ladder", "the last ticket", "a garden gate", "the weather report",
    "an old photograph", "the recipe for plum cake",
)  # fmt: skip
PLACES = (
    "behind the station", "near the river", "at the market", "in the attic", "on the ferry", "under the stairs",
    "outside the library", "between the two farms", "in the next street", "at the edge of the wood",
)  # fmt: skip
TIMES = (
    "On Monday", "Before the storm", "Late in the summer", "That evening", "Years later", "During the concert",
    "Around noon", "After the meeting", "One winter", "In the same week",
)  # fmt: skip
REMARKS = (
    "which surprised nobody", "although it was raining", "because the shop had closed", "and said nothing about it",
    "while the children slept", "as people did in those days", "but only for an hour", "without asking for money",
    "until the bus arrived", "so that everyone could see it",
)  # fmt: skip


def sentence(random: Random) -> str:
    pick = random.choice
    forms = (
        f"{pick(TIMES)} {pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)} {pick(PLACES)}, {pick(REMARKS)}.",
        f"{pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)}, {pick(REMARKS)}.",
        f"it was {pick(SUBJECTS)} who {pick(VERBS)} {pick(OBJECTS)} {pick(PLACES)}.",
        f"{pick(PLACES)} {pick(SUBJECTS)} and {pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)}.",
    )
    chosen = pick(forms)
    return chosen[0].upper() + chosen[1:]


def prose(random: Random, words: int) -> str:
    """Of exactly so many words."""
    text: list[str] = []
    while len(text) < words:
        text += sentence(random).split()
    return " ".join(text[:words]).rstrip(".,") + "."
