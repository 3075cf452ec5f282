# ruff: noqa: E501  (a pattern stays on one line, however long: it is read and searched as one sentence)
"""Short stories put together from coherent parts: a hero, a place, a wish, a trouble, a helper, an ending.

Knows storytelling by template and nothing of MiniVault, tokens or training.
"""

from __future__ import annotations

from random import Random

HEROES = (
    ("fox", "he"), ("rabbit", "she"), ("robot", "it"), ("mouse", "she"), ("bear", "he"), ("cat", "she"), ("owl", "he"), ("hedgehog", "he"), ("dragon", "she"), ("girl", "she"), ("boy", "he"), ("sailor", "he"), ("baker", "she"), ("gardener", "he"), ("frog", "he"), ("duck", "she"), ("knight", "he"), ("princess", "she"), ("clockmaker", "he"), ("dog", "he"), ("penguin", "she"), ("squirrel", "she"), ("wizard", "he"), ("turtle", "she"),
)  # fmt: skip
NAMES = {
    "she": ("Mia", "Lily", "Nora", "Ella", "Ruby", "Anna", "Clara", "Ida", "Rosa", "Tilda"),
    "he": ("Max", "Tom", "Finn", "Leo", "Oscar", "Ben", "Hugo", "Emil", "Sam", "Otto"),
    "it": ("Bit", "Pixel", "Dot", "Chip", "Bolt", "Spark"),
}
FORMS = {"she": ("her", "her"), "he": ("him", "his"), "it": ("it", "its")}
PLACES = (
    "in a small house by the sea", "at the edge of a dark forest", "on a green hill", "in a quiet village", "in an old tower", "beside a long river", "in a busy little town", "under a big oak tree", "on a tiny island", "in a valley full of flowers",
)  # fmt: skip
MOODS = ("little", "young", "curious", "brave", "shy", "kind", "clever", "sleepy", "cheerful", "quiet")
WISHES = (
    "find the lost key of the old tower", "see the stars from the highest mountain", "bake the best bread in the land", "build a boat out of wood", "find a friend", "learn a new song", "grow a red rose in the snow", "repair the broken clock of the village", "find a golden shell", "bring a letter to the king", "paint a picture of the moon", "fly a kite above the clouds",
)  # fmt: skip
TROUBLES = (
    "a storm came and the path was lost", "night fell and it was very dark", "the bridge over the river was broken", "a heavy rain began to fall", "a big stone blocked the way", "the map blew away in the wind", "the snow was too deep", "nobody in the village knew the way",
)  # fmt: skip
HELPERS = (
    ("an old owl", "showed {obj} the way"), ("a small bird", "sang until the fear was gone"), ("a friendly giant", "carried {obj} on his shoulders"), ("a wise turtle", "told {obj} to be patient and try again"), ("a lost lamb", "stayed close and kept {obj} warm"), ("a kind old woman", "gave {obj} a lantern"), ("a tiny ant", "called a hundred friends to help"), ("a silver fish", "told {obj} a secret"),
)  # fmt: skip
ENDINGS = (
    "From that day on they were friends.", "That evening everyone danced, and {name} smiled.", "And {name} never forgot that day.", "So {name} learned that asking for help is brave.", "{Sub} went home happy and slept very well.", "And if you listen at night, you can still hear {obj} laugh.", "Then {sub} went home and told everyone the story.",
)  # fmt: skip
ASKS = (
    "<Tell|Write|Give|Make up|Invent|Read> me a <short|little|nice|funny|new|bedtime|> story<.|!|, please.|>", "<Tell|Write|Invent|Make up> a <short|little|nice|> story.", "<Can|Could> you <tell|write> <me |>a <short |>story?", "I <want|would like> <to hear |>a <short |>story.", "<A story, please|Story|Story time|Another story|Tell me another story|A bedtime story>.", "Do you know <a story|any stories|a bedtime story>?", "Once upon a time",
)  # fmt: skip
HERO_ASKS = (
    "<Tell|Write|Give|Make up|Invent> me a <short |little |>story about %a_hero%<.|, please.|>", "<Tell|Write|Invent> a <short |>story about %a_hero%.", "<Can|Could> you <tell|write> <me |>a <short |>story about %a_hero%?", "<A story|Story> about %a_hero%<, please.|.>", "I <want|would like> a story about %a_hero%.", "<Story|story>: %a_hero%",
)  # fmt: skip


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def story(rng: Random, hero: tuple[str, str] | None = None) -> str:
    """Five to seven sentences about one hero, with pronouns that agree."""
    kind, sub = hero or rng.choice(HEROES)
    obj, own = FORMS[sub]
    name, mood = rng.choice(NAMES[sub]), rng.choice(MOODS)
    wish, trouble, (helper, deed) = rng.choice(WISHES), rng.choice(TROUBLES), rng.choice(HELPERS)
    sentences = [
        f"Once upon a time, {with_article(mood)} {kind} called {name} lived {rng.choice(PLACES)}.",
        f"More than anything, {name} wanted to {wish}.",
        rng.choice(
            (
                f"One morning {sub} packed {own} bag and set out.",
                f"One day {sub} said: today I will try!",
                f"So one bright morning {sub} began.",
            )
        ),
        f"But then {trouble}.",
        rng.choice(
            (
                f"{name} was afraid, but {sub} did not give up.",
                f"{name} sat down and almost cried.",
                f"{name} took a deep breath.",
            )
        ),
        f"Just then {helper} came by and {deed.format(obj=obj)}.",
        rng.choice((f"At last {name} could {wish}.", f"Together they managed it, and {name} could {wish}.")),
        rng.choice(ENDINGS).format(name=name, sub=sub, Sub=sub.capitalize(), obj=obj),
    ]
    if rng.random() < 0.5:
        del sentences[4]
    return " ".join(sentences)
