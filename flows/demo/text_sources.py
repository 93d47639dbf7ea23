"""The text-only sources: translations, small talk, word problems and programs.

`phrasebook` and `small-talk` share a few questions, so that duplicates are found across layouts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from curation.errors import RejectReason
from flows.demo.upstream import Upstream, json_array, json_lines

ADJECTIVES = {
    "red": ("rot", "红色的"), "blue": ("blau", "蓝色的"), "green": ("grün", "绿色的"), "white": ("weiß", "白色的"),
    "black": ("schwarz", "黑色的"), "big": ("groß", "大的"), "small": ("klein", "小的"), "beautiful": ("schön", "美丽的"),
}  # fmt: skip
NOUNS = {
    "tree": ("Baum", "er", "树"), "house": ("Haus", "es", "房子"), "cat": ("Katze", "e", "猫"), "dog": ("Hund", "er", "狗"),
    "flower": ("Blume", "e", "花"), "book": ("Buch", "es", "书"), "door": ("Tür", "e", "门"), "bird": ("Vogel", "er", "鸟"),
    "street": ("Straße", "e", "街道"), "picture": ("Bild", "es", "图片"),
}  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WORDS = ("tree", "river", "garden", "cloud", "winter", "music", "bread", "stone", "planet", "window", "letter", "horse")
PEOPLE = (("Tom", "He"), ("Ann", "She"), ("Zoë", "She"), ("José", "He"), ("Mia", "She"), ("Jörg", "He"))
EXAMINED_PEOPLE = (("Ada", "She"), ("Otto", "He"), ("Inès", "She"))
ZERO_WIDTH_SPACE = "\u200b"
THINGS = ("apples", "pens", "stamps", "coins", "books", "cups")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exercise:
    """A question without a picture; `given` is what it is about, where that stands apart."""

    question: str
    answer: str
    given: str = ""

    @property
    def turns(self) -> tuple[str, str]:
        """What the two sides say."""
        return (f"{self.question}\n{self.given}" if self.given else self.question, self.answer)


def respelled(number: int, question: str) -> str:
    """The same question in capitals, in full-width letters, with other spaces, or as it is, by `number` from 0 to 3."""
    if number == 0:
        return question.upper()
    if number == 1:
        return "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in question)
    return "  " + question.replace(" ", "\u00a0 ") + "\n" if number == 2 else question


def phrasebook(up: Upstream) -> None:
    """Alpaca records (instruction, input, output) in one JSON array; Chinese, German and French among them."""
    for _ in range(72 * up.scale):
        _add_exercise(up, up.new_text(_language_exercise, lambda item: item.turns[0]))
    for number in range(4):
        task = up.new_text(_letter_exercise, lambda item: item.turns[0])
        _add_exercise(up, task)
        _add_exercise(up, Exercise(question=respelled(number, task.question), answer=task.answer))
    for task in _shared_exercises(up):
        _add_exercise(up, task)
    for number in range(2):
        up.reject(RejectReason.EMPTY_ANSWER, _alpaca(f"Name a fruit. {number}", "", " " * number))
    up.reject(RejectReason.EMPTY_QUESTION, _alpaca("", "", "yes"))
    up.reject(RejectReason.MISSING_FIELD, {"instruction": "Translate into English.", "input": "der Mond"})
    up.reject(RejectReason.UNSUPPORTED_VALUE, _alpaca("Translate into German.", "the sun", {"de": "die Sonne"}))
    up.reject(RejectReason.BAD_JSON, '{"instruction": "Translate into German." "input": "the sea", "output": "das Meer"}')
    up.files["phrasebook.json"] = json_array(up.mixed())


def _add_exercise(up: Upstream, task: Exercise) -> None:
    up.sample(_alpaca(task.question, task.given, task.answer), task.turns)


def _alpaca(instruction: str, given: str, output: object) -> dict[str, object]:
    return {"instruction": instruction, "input": given, "output": output}


def _language_exercise(rng: Random) -> Exercise:
    return rng.choice((_german, _chinese, _number_word, _letter_exercise))(rng)


def _german(rng: Random) -> Exercise:
    adjective, noun = rng.choice(tuple(ADJECTIVES)), rng.choice(tuple(NOUNS))
    german, ending, _ = NOUNS[noun]
    phrase = f"{ADJECTIVES[adjective][0]}{ending} {german}"
    if rng.random() < 0.5:
        return Exercise(question="Translate into German.", given=f"{adjective} {noun}", answer=phrase)
    return Exercise(question="Übersetze ins Englische.", given=phrase, answer=f"{adjective} {noun}")


def _chinese(rng: Random) -> Exercise:
    adjective, noun = rng.choice(tuple(ADJECTIVES)), rng.choice(tuple(NOUNS))
    phrase = ADJECTIVES[adjective][1] + NOUNS[noun][2]
    if rng.random() < 0.5:
        return Exercise(question="把下面的词语翻译成英语。", given=phrase, answer=f"{adjective} {noun}")
    return Exercise(question="Translate into Chinese.", given=f"{adjective} {noun}", answer=phrase)


def _number_word(rng: Random) -> Exercise:
    number = rng.randint(10, 9_000)
    questions = (
        f"Quel nombre vient après {number} ?",
        f"Welche Zahl kommt nach {number}?",
        f"{number}的后面是哪个数？",
    )
    return Exercise(question=rng.choice(questions), answer=str(number + 1))


def _letter_exercise(rng: Random) -> Exercise:
    words = " ".join(rng.choice(WORDS) for _ in range(3))
    if rng.random() < 0.5:
        return Exercise(question=f"What is the first word of '{words}'?", answer=words.split()[0])
    return Exercise(question=f"What is the last letter of '{words}'?", answer=words[-1])


def _shared_exercises(up: Upstream) -> list[Exercise]:
    rng = up.shared_rng("text")
    starts = rng.sample(range(100, 900), 3)
    return [
        Exercise(question=f"Which number comes after {start}, counting by ten?", answer=str(start + 10)) for start in starts
    ]


def small_talk(up: Upstream) -> None:
    """Conversations of one to three exchanges with roles user and assistant, one a line; some open with a system text."""
    for _ in range(56 * up.scale):
        exchanges = up.new_text(lambda rng: [_chat(rng) for _ in range(rng.randint(1, 3))], str)
        turns = [text for task in exchanges for text in task.turns]
        system = {"system": "You answer in one word."} if up.rng.random() < 0.2 else {}
        up.sample({"id": up.rng.randint(0, 40), **system, "messages": _messages(turns)}, turns)
    for number, task in enumerate(_shared_exercises(up)):
        turns = [respelled(number, task.question), task.answer]
        up.sample({"id": number, "messages": _messages(turns)}, turns)
    answer_first = [{"role": "assistant", "content": "Hello!"}, *_messages(["Is 8 larger than 1?", "of course"])]
    up.sample({"id": 0, "messages": answer_first}, ["Is 8 larger than 1?", "of course"])
    silence = ["What does the wind say?", ZERO_WIDTH_SPACE]
    up.sample({"id": 0, "messages": _messages(silence)}, silence)
    up.planted.no_words += 1
    whole = json.dumps({"id": 7, "messages": _messages(["What comes after Sunday?", "Monday"])})
    for length in (len(whole) // 2, len(whole) - 3):
        up.reject(RejectReason.BAD_JSON, whole[:length])
    up.reject(RejectReason.EMPTY_QUESTION, {"id": 8, "messages": _messages(["  ", "yes"])})
    up.reject(RejectReason.EMPTY_ANSWER, {"id": 9, "messages": _messages(["Is it late?", ""])})
    up.reject(RejectReason.MISSING_FIELD, {"id": 10, "title": "a talk that was deleted"})
    talk = [{"role": "user", "content": {"text": "Hi"}}, {"role": "assistant", "content": "Hello"}]
    up.reject(RejectReason.UNSUPPORTED_VALUE, {"id": 11, "messages": talk})
    up.files["talks.jsonl"] = json_lines(up.mixed())


def _messages(turns: list[str]) -> list[dict[str, str]]:
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(turns)]


def _chat(rng: Random) -> Exercise:
    first, second = rng.sample(range(1, 60), 2)
    day = rng.randrange(7)
    return rng.choice(
        (
            Exercise(question=f"Is {first} larger than {second}?", answer="yes" if first > second else "no"),
            Exercise(question=f"Is {first} an even number?", answer="no" if first % 2 else "yes"),
            Exercise(question=f"{first % 10}加{second % 10}等于几？", answer=str(first % 10 + second % 10)),
            Exercise(question=f"What day comes after {DAYS[day]}?", answer=DAYS[(day + 1) % 7]),
            Exercise(question=f"Ist {first} größer als {second}?", answer="ja" if first > second else "nein"),
        )
    )


def word_sums(up: Upstream) -> None:
    """Question, answer and rationale between tabs: no header, no quoting, line breaks as the two characters `\\n`."""
    for _ in range(76 * up.scale):
        up.sample(*_row(up.new_text(_word_sum, lambda item: item.question)))
    for number in range(3):
        task = up.new_text(_word_sum, lambda item: item.question)
        up.sample(*_row(task))
        up.sample(*_row(Exercise(question=task.question.upper() if number else f" {task.question} ", answer=task.answer)))
    for number, task in enumerate(_exam_sums(up)[:3]):
        up.sample_from_exam(*_row(Exercise(question=respelled(3 * number, task.question), answer=task.answer)))
    for _ in range(2):
        up.reject(RejectReason.EMPTY_ANSWER, f"{_escaped(_word_sum(up.rng).question)}\t\tno one knows")
    up.reject(RejectReason.EMPTY_QUESTION, " \t12\t3 x 4 = 12")
    up.files["train.tsv"] = ("\n".join(up.mixed()) + "\n").encode()


def sum_exam(up: Upstream) -> None:
    """A benchmark of word problems; three of them found their way into `word-sums`."""
    for task in _exam_sums(up):
        up.sample({"question": task.question, "answer": task.answer}, task.turns)
    up.files["test.jsonl"] = json_lines(up.mixed())


def _exam_sums(up: Upstream) -> list[Exercise]:
    rng = up.shared_rng("sum-exam")
    return [_word_sum(rng, EXAMINED_PEOPLE) for _ in range(12)]


def _row(task: Exercise) -> tuple[str, tuple[str, str]]:
    return f"{_escaped(task.question)}\t{task.answer}\tSo the answer is {task.answer}.", task.turns


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n")


def _word_sum(rng: Random, people: Sequence[tuple[str, str]] = PEOPLE) -> Exercise:
    (name, pronoun), thing = rng.choice(people), rng.choice(THINGS)
    had, other = rng.randint(6, 20), rng.randint(1, 5)
    if rng.random() < 0.2:
        question = f'A board is {had}" long.\n{name} cuts off {other}".\nHow many inches are left?'
        return Exercise(question=question, answer=str(had - other))
    is_gain = rng.random() < 0.5
    verb = "gets" if is_gain else "loses"
    question = f"{name} has {had} {thing}.\n{pronoun} {verb} {other}.\nHow many {thing} does {name} have now?"
    return Exercise(question=question, answer=str(had + other if is_gain else had - other))


def print_outs(up: Upstream) -> None:
    """Small Python programs and what they print, one JSON object a line, the answer in `response`."""
    for _ in range(58 * up.scale):
        task = up.new_text(_program, lambda item: item.given)
        up.sample({"instruction": task.question, "input": task.given, "response": task.answer}, task.turns)
    up.reject(RejectReason.BAD_JSON, '{"instruction": "What does this program print?", "input": "print(1')
    up.reject(RejectReason.EMPTY_ANSWER, {"instruction": "What does this print?", "input": "pass", "response": "\n"})
    up.reject(RejectReason.MISSING_FIELD, {"instruction": "What does this print?", "input": "print(2)", "response": None})
    up.reject(RejectReason.UNSUPPORTED_VALUE, {"instruction": ["Sort this list."], "input": "", "response": "[]"})
    up.files["codegen.jsonl"] = json_lines(up.mixed())


def _program(rng: Random) -> Exercise:
    first, second = rng.randint(2, 30), rng.randint(2, 12)
    word, other = rng.sample(WORDS, 2)
    programs = (
        (f"print({first} + {second})", str(first + second)),
        (f"x = {first}\nx = x - {second}\nprint(x)", str(first - second)),
        (f"print(max({first}, {second}))", str(max(first, second))),
        (f'print(len("{word}") + {second})', str(len(word) + second)),
        (f'words = ["{word}", "{other}"]\nprint(sorted(words)[0])', min(word, other)),
        (f'for step in range({second % 3 + 1}):\n    print("{word}")', "\n".join([word] * (second % 3 + 1))),
        (f"print({first} > {second})", str(first > second)),
    )
    code, output = rng.choice(programs)
    return Exercise(question="What does this program print?", given=code, answer=output)
