"""Files of strangers: what is asked for comes out, or one sentence, and nothing takes more than its share."""

import gzip
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.core.errors import MOST_MESSAGE, MOST_SHOWN, UserError, quote
from blocknerf.core.reading import (
    Damaged,
    is_file,
    opened_gzip,
    parse_json,
    parse_yaml,
    read_bytes,
    read_gzip,
    read_json,
    read_npy,
    read_yaml,
)

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    # what a file's text may hold: no zeros and no halves of characters
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab_ü"), inner, max_size=4),
    max_leaves=20,
)


@given(tree=TREES, ascii_only=st.booleans(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_every_json_comes_back_however_it_was_encoded(tree, ascii_only, encoding):
    assert parse_json(json.dumps(tree, ensure_ascii=ascii_only).encode(encoding)) == tree


@given(st.binary(max_size=60) | st.text("[]{}:,\"'&*!<>-?| ab01.~\n", max_size=60).map(str.encode))
def test_any_bytes_are_json_and_yaml_or_damaged(content):
    for parse in (parse_json, lambda content: parse_yaml(content.decode("utf-8", "replace"))):
        with suppress(Damaged):
            parse(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands there twice"),
        ("[" * 100_000, "more than 64 lists within each other"),
        ("[" * 65 + "]" * 65, "more than 64 lists within each other"),
        ("9" * 5000, "a number of 5000 digits"),
        ("[1e400]", "'1e400' is larger than any number"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        (r'"a\u0000b"', "a zero in it"),
        (r'"\ud800"', "half of a character"),
    ],
)
def test_what_json_allows_and_no_file_has(tmp_path, content, message):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match=rf"The plan .*plan.json is damaged \(.*{message}.*\)\. Make it again"):
        read_json(tmp_path / "plan.json", "plan")


LAUGHS = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, "with its aliases it holds more than 100000 values"),
        ("a: &x [*x]", "an alias stands inside of what it stands for"),
        ("[" * 5000, "more than 64 lists within each other"),
        ("!!bool abc", "a value that is not what its tag says"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor for the tag"),
        ("!!timestamp 2001-01-01", "could not determine a constructor for the tag"),
        ("a: 1\nb: 2\na: 3", "the key 'a' stands there twice, the second time in line 3"),
        (r'a: "\0"', "a zero or half of a character"),
        ("\x07", "special characters are not allowed"),
    ],
)
def test_yaml_is_text_numbers_lists_and_mappings(tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"c.yaml is not YAML: .*{message}"):
        read_yaml(tmp_path / "c.yaml", "configuration")
    assert time.monotonic() - began < 5


def test_yaml_keeps_what_people_write(tmp_path):
    (tmp_path / "c.yaml").write_bytes(
        b"\xef\xbb\xbfa: &a {b: 1, c: 5e-4}\nd: {<<: *a, b: 2}\nday: 2001-01-01\non: yes\n"
    )
    read = read_yaml(tmp_path / "c.yaml", "configuration")
    assert read["d"] == {"b": 2, "c": "5e-4"}
    assert read["day"] == "2001-01-01"


def test_only_plain_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, message in (
        (Path("/dev/zero"), "a device or a pipe"),
        (tmp_path / "pipe", "a device or a pipe"),
        (tmp_path, "a folder"),
        (tmp_path / "none", "There is no plan at"),
        (tmp_path / ("n" * 5000), "cannot be read: File name too long"),
        (tmp_path / "a\0b", "embedded null byte"),
    ):
        assert not is_file(place)
        with pytest.raises(UserError) as error:
            read_bytes(place, "plan")
        assert message in str(error.value) or len(str(error.value)) == MOST_MESSAGE
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(UserError, match="has 11 bytes, and 10 are the most"):
        read_bytes(tmp_path / "large", "plan", 10)


# --- arrays and gzip --------------------------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    dtype=st.sampled_from(["<f4", ">f8", "|u1", "<i8", "<f2"]),
    order=st.sampled_from("CF"),
    mapped=st.booleans(),
)
def test_arrays_come_back(tmp_path_factory, shape, dtype, order, mapped):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    array = np.asarray(np.random.default_rng(0).integers(0, 100, shape).astype(dtype), order=order)
    np.save(path, array)
    read = read_npy(path, "array", mapped=mapped)
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04whatever", "an archive of arrays"),
        (b"", "not a numpy array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }"), "bytes, and it has 0"),
        (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000},), }}"), "its header has the kind"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "it holds Python objects"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(7)), "are 8 bytes, and it has 7"),
        (npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)), "holds records"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "complex64, and no numbers of"),
        (npy("[" * 50_000), "its header is cut off"),
        (npy("{'descr': '<Z9', 'fortran_order': False, 'shape': (1,), }"), "its header has the kind '<Z9'"),
    ],
)
def test_arrays_that_are_not_what_their_headers_say(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(UserError, match=f"The array .*a.npy is damaged: .*{message}"):
            read_npy(tmp_path / "a.npy", "array", mapped=mapped)


def test_gzip_grows_as_far_as_was_asked(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(1 << 22)))
    assert read_gzip(path, "record", 1 << 22) == bytes(1 << 22)
    with pytest.raises(UserError, match="grows to more than 1000 bytes"):
        read_gzip(path, "record", 1000)
    with opened_gzip(path, "record") as stream:
        assert len(stream.read(2**60)) == 1 << 22
    for damaged in (b"no gzip", path.read_bytes()[:100]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged: it is"):
            read_gzip(path, "record", 1 << 22)


# --- messages ---------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.integers(1, 40))
def test_every_message_is_one_printable_line(text, times):
    message = str(UserError(text * times))
    assert len(message) <= MOST_MESSAGE
    assert message.isprintable() or message == ""
    message.encode()


def test_a_long_message_keeps_its_beginning_and_its_remedy():
    message = str(UserError("The plan " + "x" * 10_000 + " is damaged. Delete it."))
    assert message.startswith("The plan xxx")
    assert message.endswith("xxx is damaged. Delete it.")
    assert " ... " in message


NESTED: list = []
NESTED.append(NESTED)
HUGE = ("x" * 10**6, 10**5000, [[0] * 1000] * 1000, NESTED, "\x1b[31m\n", float("nan"), b"\xff")


def test_what_arrived_is_shown_in_short():
    for value in HUGE:
        text = quote(value)
        assert 0 < len(text) <= MOST_SHOWN
        assert text.isprintable()
