"""The exact wording of errors is pinned here alone: other tests match what arrived, or the key that it is about."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.messages import STORED, messages

TESTS = Path(__file__).parents[1]
MOST_WORDS = 8
"""Of a message, in another test: enough to tell it from others."""
WORDING = " ".join(STORED.read_text(encoding="utf-8").split())


def test_messages_are_worded_as_they_are_listed():
    """`make generated` lists them anew."""
    assert STORED.read_text(encoding="utf-8") == messages()


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem)
def test_other_tests_repeat_few_words_of_a_message(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for part in re.split(r"\.\*|\{.*?\}", re.sub(r"\\(.)", r"\1", node.value)):
                assert _words_in_common(part.split()) <= MOST_WORDS, f"line {node.lineno}: {node.value!r}"


def _words_in_common(words: list[str]) -> int:
    """The length of the longest run of `words` that stands in a message."""
    longest = 0
    for begin in range(len(words)):
        while " ".join(words[begin : begin + longest + 1]) in WORDING and begin + longest < len(words):
            longest += 1
    return longest


def test_a_copied_message_is_found():
    assert _words_in_common(WORDING.split()[100:120]) == 20
    assert _words_in_common(["no", "such", "sentence"]) < MOST_WORDS
