"""From texts to sets of hashed n-grams ("shingles"), over the UTF-8 bytes of whole columns at once.

Words are runs of letters, digits and marks of any script. Scripts written without spaces (Chinese, Japanese, Thai and others)
have no words to cut at, so each of their signs stands for itself and their n-grams are longer. Signs of calculation and
currency count as words, since `a + b` and `a - b` say different things; other punctuation only separates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from curation.compiled import INCREMENT, compiled, folded

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Values = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

SEPARATOR, WORD, SPACELESS, SYMBOL = 0, 1, 2, 3
_WORDS = r"[\p{L}\p{N}\p{M}\p{Pc}]"
_SCRIPTS = ("Han", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Yiii")
_SPACELESS = "[" + "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS) + "&&" + _WORDS + "]"
_SYMBOLS = r"[[\p{Sm}\p{Sc}*/%&\\\-]--[|]]"
_FIRST_SURROGATE, _AFTER_SURROGATES, _AFTER_UNICODE = 0xD800, 0xE000, 0x110000
_AFTER_LETTERS = 0x40000  # planes 4 and up hold no letters
_WORD_START = np.uint64(0xCBF29CE484222325)
_BYTE_MULTIPLIER = np.uint64(0x100000001B3)


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """The sets of n items: item i has `values[edges[i]:edges[i + 1]]`, sorted and distinct.

    The lowest bit of a value is the role of the turn it is from (0 human, 1 gpt). `set_keys` are equal for equal sets,
    `number_keys` for the same numbers, words that begin with a digit, in the same order (0 without any).
    """

    edges: Places
    values: Values
    set_keys: Hashes
    number_keys: Hashes

    def __len__(self) -> int:
        return len(self.edges) - 1

    def taken(self, items: npt.NDArray[np.integer]) -> "ShingleSets":
        """The sets of `items`, in that order."""
        sizes = self.edges[items + 1] - self.edges[items]
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        places = np.arange(edges[-1]) + np.repeat(self.edges[items] - edges[:-1], sizes)
        values: Values = self.values[places]
        return ShingleSets(edges, values, self.set_keys[items], self.number_keys[items])


def concatenated(pieces: Sequence[ShingleSets]) -> ShingleSets:
    """The items of all pieces, one behind the other."""
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(piece.edges) for piece in pieces)])
    none = np.zeros(0, np.uint64)
    return ShingleSets(
        np.cumsum(sizes),
        np.concatenate([np.zeros(0, np.uint32), *(piece.values for piece in pieces)]),
        np.concatenate([none, *(piece.set_keys for piece in pieces)]),
        np.concatenate([none, *(piece.number_keys for piece in pieces)]),
    )


def shingle_sets(texts: pa.StringArray, roles: Bytes, item_edges: Places, *, ngram: int, sign_ngram: int) -> ShingleSets:
    """The sets of n items, item i holding `texts[item_edges[i]:item_edges[i + 1]]` with their `roles`.

    `texts` are normalised and hold no nulls. N-grams do not cross texts; a text shorter than one n-gram counts as one whole.
    """
    data, text_edges = text_bytes(texts)
    num_items = len(item_edges) - 1
    longest = int(np.diff(text_edges).max(initial=0))
    # A token has a byte at least, and an n-gram starts at a token. Pages that are not used take no memory.
    values = np.empty(int(text_edges[-1] - text_edges[0]) + 1, np.uint32)
    edges = np.zeros(num_items + 1, np.int64)
    set_keys, number_keys = np.zeros(num_items, np.uint64), np.zeros(num_items, np.uint64)
    tokens, kinds = np.empty(longest + 1, np.uint64), np.empty(longest + 1, np.uint8)
    _shingle_items(
        data, text_edges, roles, item_edges, sign_classes(), ngram, sign_ngram, tokens, kinds,
        values, edges, set_keys, number_keys,
    )  # fmt: skip
    return ShingleSets(edges, values[: edges[-1]].copy(), set_keys, number_keys)


def whole_texts(texts: pa.StringArray, *, ngram: int, sign_ngram: int) -> ShingleSets:
    """The sets of texts that are items of their own."""
    roles, edges = np.zeros(len(texts), np.uint8), np.arange(len(texts) + 1, dtype=np.int64)
    return shingle_sets(texts, roles, edges, ngram=ngram, sign_ngram=sign_ngram)


def role_keys(texts: pa.StringArray, roles: Bytes, item_edges: Places) -> tuple[Hashes, Hashes]:
    """Keys of each item's human and model turns, equal where these are equal, turn by turn."""
    data, text_edges = text_bytes(texts)
    keys = np.zeros((2, len(item_edges) - 1), np.uint64)
    _key_roles(data, text_edges, roles, item_edges, keys)
    return keys[0], keys[1]


@compiled
def _key_roles(data: Bytes, text_edges: Places, roles: Bytes, item_edges: Places, keys: npt.NDArray[np.uint64]) -> None:
    for item in range(len(item_edges) - 1):
        for text in range(item_edges[item], item_edges[item + 1]):
            state = _WORD_START
            for place in range(text_edges[text], text_edges[text + 1]):
                state = folded(state, np.uint64(data[place]))
            keys[roles[text], item] = folded(keys[roles[text], item], state)


def text_bytes(texts: pa.StringArray) -> tuple[Bytes, Places]:
    """The bytes of a string column, and where each text begins and the last ends."""
    wide = texts if pa.types.is_large_string(texts.type) else texts.cast(pa.large_string())
    edges = np.frombuffer(wide.buffers()[1], np.int64, len(wide) + 1, wide.offset * 8)
    data = wide.buffers()[2]
    return np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8), edges


@cache
def sign_classes() -> Bytes:
    """SEPARATOR, WORD, SPACELESS or SYMBOL for every code point."""
    points = np.r_[0:_FIRST_SURROGATE, _AFTER_SURROGATES:_AFTER_LETTERS]
    signs = pl.Series([chr(point) for point in points.tolist()])
    classes = np.zeros(_AFTER_UNICODE, np.uint8)
    for pattern, kind in ((_SYMBOLS, SYMBOL), (_WORDS, WORD), (_SPACELESS, SPACELESS)):
        classes[points[signs.str.contains(pattern).to_numpy()]] = kind
    return classes


@compiled
def _shingle_items(
    data: Bytes, text_edges: Places, roles: Bytes, item_edges: Places, classes: Bytes, ngram: int, sign_ngram: int,
    tokens: Hashes, kinds: Bytes, values: Values, edges: Places, set_keys: Hashes, number_keys: Hashes,
) -> None:  # fmt: skip
    end = 0
    for item in range(len(item_edges) - 1):
        first = end
        numbers = np.uint64(0)
        for text in range(item_edges[item], item_edges[item + 1]):
            found, numbers = _tokenise(data, text_edges[text], text_edges[text + 1], classes, tokens, kinds, numbers)
            end = _add_ngrams(tokens, kinds, found, roles[text], ngram, sign_ngram, values, end)
        values[first:end].sort()
        key = np.uint64(0)
        filled = first
        for place in range(first, end):
            if place == first or values[place] != values[filled - 1]:
                values[filled] = values[place]
                filled += 1
                key = folded(key, np.uint64(values[place]))
        end = filled
        edges[item + 1] = end
        set_keys[item] = key
        number_keys[item] = numbers


@compiled
def _tokenise(
    data: Bytes, start: int, stop: int, classes: Bytes, tokens: Hashes, kinds: Bytes, numbers: np.uint64
) -> tuple[int, np.uint64]:
    """Fill `tokens` with hashes and `kinds` with the classes of a text's tokens; returns their number and `numbers`."""
    found = 0
    place = start
    word = _WORD_START
    is_word = is_number = False
    while place <= stop:
        kind = SEPARATOR
        size = 1
        if place < stop:
            point, size = _decode(data, place)
            kind = classes[point]
            if point == 45 and start < place < stop - 1 and _is_letter(data[place - 1]) and _is_letter(data[place + 1]):
                kind = SEPARATOR  # a hyphen within a word
        if kind == WORD:
            for byte in range(place, place + size):
                word = (word ^ np.uint64(data[byte])) * _BYTE_MULTIPLIER
            # "17m" states a number as 17 does, and "5m - n" is not "6m - n"; names such as x2 do not.
            is_number = is_number or (not is_word and 48 <= data[place] <= 57)
            is_word = True
        else:
            if is_word:
                tokens[found] = word
                kinds[found] = WORD
                found += 1
                if is_number:
                    numbers = folded(numbers, word)
                word = _WORD_START
                is_word = is_number = False
            if kind != SEPARATOR:
                tokens[found] = np.uint64(point) * INCREMENT
                kinds[found] = kind
                found += 1
        place += size
    return found, numbers


@compiled
def _is_letter(byte: int) -> bool:
    return 97 <= byte <= 122 or byte >= 128


@compiled
def _decode(data: Bytes, place: int) -> tuple[int, int]:
    """The code point at a place of valid UTF-8, and how many bytes it takes."""
    lead = int(data[place])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | _low_bits(data, place + 1), 2
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | _low_bits(data, place + 1) << 6 | _low_bits(data, place + 2), 3
    high = (lead & 0x07) << 18 | _low_bits(data, place + 1) << 12
    return high | _low_bits(data, place + 2) << 6 | _low_bits(data, place + 3), 4


@compiled
def _low_bits(data: Bytes, place: int) -> int:
    return int(data[place]) & 0x3F


@compiled
def _add_ngrams(
    tokens: Hashes, kinds: Bytes, found: int, role: int, ngram: int, sign_ngram: int, values: Values, end: int
) -> int:
    before = end
    for first in range(found):
        width = sign_ngram if kinds[first] == SPACELESS else ngram
        if first + width <= found:
            values[end] = _ngram_value(tokens, first, width, role)
            end += 1
    if end == before and found > 0:
        values[end] = _ngram_value(tokens, 0, found, role)
        end += 1
    return end


@compiled
def _ngram_value(tokens: Hashes, first: int, width: int, role: int) -> np.uint32:
    state = np.uint64(width)
    for place in range(first, first + width):
        state = folded(state, tokens[place])
    state = folded(state, np.uint64(0))
    return np.uint32((state >> np.uint64(32)) & np.uint64(0xFFFFFFFE) | np.uint64(role))
