"""What helps against a refusal of the system depends on what was refused."""

import errno
import os

import pytest

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_atomically
from blocknerf.core.system_errors import reason, remedy


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_only_a_full_disk_wants_space(number):
    error = OSError(number, os.strerror(number))
    assert ("space" in remedy(error)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert reason(error) == os.strerror(number)


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.EROFS, "may be written to"),
        (errno.EACCES, "permissions"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOENT, "vanished"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.EIO, "check the disk"),
    ],
)
def test_what_is_said_of_a_file_that_cannot_be_written(tmp_path, number, helps):
    def refuse(temporary):
        raise OSError(number, os.strerror(number), str(temporary))

    with pytest.raises(UserError) as refused:
        write_atomically(tmp_path / "plan.json", refuse)
    message = str(refused.value)
    assert message.startswith(f"Cannot write {tmp_path / 'plan.json'}: {os.strerror(number)}. ")
    assert helps in message
    assert ".tmp" not in message


def test_an_error_without_a_number_is_said_as_it_is():
    assert reason(OSError("the file is odd")) == "the file is odd"
    assert remedy(OSError("the file is odd")).startswith("check")
