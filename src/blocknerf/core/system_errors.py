"""Remedies for errors of the operating system."""

import errno

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space within your quota or choose another folder",
    errno.EFBIG: "allow larger files (ulimit -f) or choose a folder on another file system",
    errno.EROFS: "choose a folder that may be written to",
    errno.EACCES: "change the permissions of the file and its folders, or choose another folder",
    errno.EPERM: "change the owner or the permissions of the file and its folders, or choose another folder",
    errno.EMFILE: "allow more open files (ulimit -n 1024)",
    errno.ENFILE: "end other programs: too many files are open on this machine",
    errno.ENOENT: "put back what has vanished from this path, or choose another one",
    errno.ESTALE: "put back what has vanished from this path, or choose another one",
    errno.ENOTDIR: "choose another path: a file stands where a folder should be",
    errno.EISDIR: "choose another name: a folder has this one",
    errno.ELOOP: "choose another path: its links lead in a circle",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk or the network behind it, or choose another folder",
    errno.ENOMEM: "end other programs or raise the memory limit",
    errno.ENODEV: "choose a folder on another file system",
    errno.EOPNOTSUPP: "choose a folder on another file system",
}


def reason(error: OSError) -> str:
    """What the system said, without the file's name and a full stop."""
    return error.strerror or str(error)


def remedy(error: OSError) -> str:
    """What to do, as a clause without a capital and a full stop."""
    return _REMEDIES.get(error.errno or 0, "check the file and its folders, or choose another folder")
