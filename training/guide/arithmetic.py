"""Arithmetic up to two digits: sums, differences and products, with the steps of long products written out.

Knows how the guide writes a calculation and which pairs are held out from training. Knows nothing of models.
"""

from __future__ import annotations

import zlib
from random import Random

ADD_WORDS = ("{a} + {b}", "{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}", "{a} and {b} added", "{a} added to {b}")
SUBTRACT_WORDS = (
    "{a} - {b}",
    "{a}-{b}",
    "{a} minus {b}",
    "the difference of {a} and {b}",
    "{a} less {b}",
    "{a} take away {b}",
)
MULTIPLY_WORDS = (
    "{a} x {b}",
    "{a} * {b}",
    "{a}*{b}",
    "{a} times {b}",
    "{a} multiplied by {b}",
    "the product of {a} and {b}",
    "{a}x{b}",
)
WORDS = {"+": ADD_WORDS, "-": SUBTRACT_WORDS, "x": MULTIPLY_WORDS}

FRAMES = (
    "What is {e}?", "What is {e}?", "What's {e}?", "{e}", "{e} = ?", "{e}=", "{e} =", "{e}?", "Calculate {e}.",
    "How much is {e}?", "Compute {e}.",
    "Can you calculate {e}?", "Tell me {e}.", "Please work out {e}.", "What does {e} make?", "How many is {e}?",
    "Give me {e}.", "Quick maths: {e}?",
    "What do you get for {e}?", "I need {e}.", "Do you know what {e} is?", "And {e}?",
)  # fmt: skip

TOO_HARD = (
    "What is {a} divided by {b}?", "{a} / {b}", "{a}/{b}", "What is {c} + {a}?", "What is {c} x {a}?", "{c} * {d}",
    "{c} + {d}", "{c} minus {a}?", "What is {c} times {d}?", "What is the square root of {a}?",
    "How much is {c} - {d}?",
    "What is {a} squared?", "Divide {a} by {b}.", "What is {a} percent of {b}?", "What is {a} to the power of {b}?",
    "What is {a} + {b} + {e}?",
)  # fmt: skip
TOO_HARD_ANSWER = "That is too hard for me: I only add, subtract and multiply two whole numbers up to 99."


def is_held_out(a: int, sign: str, b: int) -> bool:
    """True for the fifth of all two-digit pairs that training never sees, in neither order where order is free."""
    if sign != "-":
        a, b = min(a, b), max(a, b)
    return a > 9 and b > 9 and zlib.crc32(f"{a}{sign}{b}".encode()) % 5 == 0


def result(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def solution(a: int, sign: str, b: int) -> str:
    """The answer as the guide writes it; products of two-digit numbers show their steps."""
    value = result(a, sign, b)
    tens, ones = b - b % 10, b % 10
    if sign != "x" or min(a, b) <= 10 or not ones:
        if sign == "x" and min(a, b) < 10 and max(a, b) > 20 and max(a, b) % 10:
            small, large = min(a, b), max(a, b)
            first, second = small * (large - large % 10), small * (large % 10)
            if small > 1:
                return f"{a} x {b} = {first} + {second} = {value}."
        return f"{a} {sign} {b} = {value}."
    return f"{a} x {b} = {a} x {tens} + {a} x {ones} = {a * tens} + {a * ones} = {value}."


def pair(rng: Random) -> tuple[int, str, int]:
    """A training pair, two-digit numbers more often than small ones."""
    while True:
        sign = rng.choice(("+", "+", "-", "-", "x", "x", "x"))
        low = 0 if rng.random() < 0.3 else 10
        high = 12 if rng.random() < 0.15 else 99
        a, b = rng.randint(low, max(low, high)), rng.randint(low if rng.random() < 0.7 else 0, max(low, high))
        if sign == "-" and a < b and rng.random() < 0.6:
            a, b = b, a
        if not is_held_out(a, sign, b):
            return a, sign, b


def ask(a: int, sign: str, b: int, rng: Random) -> str:
    text = rng.choice(FRAMES).replace("{e}", rng.choice(WORDS[sign][:2] if rng.random() < 0.5 else WORDS[sign]))
    text = text.replace("{a}", str(a)).replace("{b}", str(b))
    return text[0].upper() + text[1:] if rng.random() < 0.8 else text.lower()


def sample(rng: Random) -> tuple[str, str]:
    """One question and its answer; now and then one that is too hard."""
    if rng.random() < 0.06:
        numbers = {
            "a": rng.randint(2, 99),
            "b": rng.randint(2, 99),
            "c": rng.randint(100, 9999),
            "d": rng.randint(100, 9999),
            "e": rng.randint(1, 99),
        }
        return rng.choice(TOO_HARD).format(**numbers), TOO_HARD_ANSWER
    a, sign, b = pair(rng)
    question = ask(a, sign, b, rng)
    swapped = "added to" in question.lower()
    return question, solution(b, sign, a) if swapped else solution(a, sign, b)
