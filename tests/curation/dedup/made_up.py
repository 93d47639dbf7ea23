"""Slow, obvious versions of what curation.dedup does fast, and texts to try both on."""

import random
import re
import unicodedata

_SPACELESS = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def slow_tokens(text: str) -> list[tuple[str, bool]]:
    """Tokens and whether each is a sign of a script without spaces."""
    tokens: list[tuple[str, bool]] = []
    word = ""
    for place, sign in enumerate(text + " "):
        category = unicodedata.category(sign)
        is_word = category[0] in "LNM" or category == "Pc"
        if is_word and not _SPACELESS.match(sign):
            word += sign
            continue
        if word:
            tokens.append((word, False))
            word = ""
        if is_word:
            tokens.append((sign, True))
        elif (category in ("Sm", "Sc") or sign in "*/%&\\-") and sign != "|" and not _is_hyphen(text, place):
            tokens.append((sign, False))
    return tokens


def _is_hyphen(text: str, place: int) -> bool:
    if text[place] != "-" or not 0 < place < len(text) - 1:
        return False
    return all(sign > "\x7f" or "a" <= sign <= "z" for sign in (text[place - 1], text[place + 1]))


def slow_ngrams(text: str, ngram: int, sign_ngram: int) -> set[tuple[str, ...]]:
    tokens = slow_tokens(text)
    found = set()
    for first, (_, is_sign) in enumerate(tokens):
        width = sign_ngram if is_sign else ngram
        if first + width <= len(tokens):
            found.add(tuple(token for token, _ in tokens[first : first + width]))
    return found or ({tuple(token for token, _ in tokens)} if tokens else set())


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other) if one | other else -1.0


def planted_texts(number: int, seed: int = 0, share: float = 0.3) -> list[str]:
    """Random texts, a share of which repeat an earlier one with a few words changed."""
    rng = random.Random(seed)
    words = [f"w{place:x}k" for place in range(600)]
    texts: list[list[str]] = []
    for _ in range(number):
        if texts and rng.random() < share:
            text = list(rng.choice(texts))
            for _ in range(rng.randint(0, 5)):
                text[rng.randrange(len(text))] = rng.choice(words)
        else:
            text = rng.choices(words, k=rng.randint(5, 50))
        texts.append(text)
    return [" ".join(text) for text in texts]
