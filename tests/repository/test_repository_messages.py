"""The exact wording of errors is pinned here alone: other tests match what arrived, or the key that it is about."""

import ast
import re
from pathlib import Path

from tests.support.messages import STORED, messages

TESTS = Path(__file__).parents[1]
MOST_WORDS = 8
"""In a pattern for an error's message: enough to tell it from others."""


def test_messages_are_worded_as_they_are_listed():
    """`make messages` lists them anew."""
    assert STORED.read_text(encoding="utf-8") == messages()


def test_other_tests_match_a_part_of_a_message_only():
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "match" and isinstance(node.value, ast.Constant):
                words = re.findall(r"[A-Za-z]{2,}", str(node.value.value))
                assert len(words) <= MOST_WORDS, f"{path}:{node.value.lineno}: {node.value.value!r}"
