"""Folders on URLs: what is pulled and pushed is whole and the same on both sides, in an order readers can trust."""

import io
import json
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from blocknerf.core.caches import CACHE_VARIABLE
from blocknerf.core.errors import UserError
from blocknerf.core.shared_folder import SharedFolder

FILES = {"plan.json": b"{}", "blocks/000/latest.json": b'{"weights": "a"}', "blocks/000/a.safetensors": b"aaaa"}


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path, monkeypatch) -> str:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return f"memory://{uuid4()}/city" if request.param == "memory" else f"file://{tmp_path}/there/city"


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def remote_files(url: str) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(url)
    return {path[len(root) + 1 :]: system.cat(path) for path in system.find(root)}


def local_files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".shared.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_is_pushed_is_pulled(url, tmp_path):
    one, other = SharedFolder(tmp_path / "one", url), SharedFolder(tmp_path / "other", url)
    write(one.local, FILES)
    one.push("plan.json", "blocks/000")
    other.pull()
    assert remote_files(url) == local_files(other.local) == FILES


def test_either_side_is_made_what_the_other_is(url, tmp_path):
    one, other = SharedFolder(tmp_path / "one", url), SharedFolder(tmp_path / "other", url)
    write(one.local, FILES)
    one.push("plan.json", "blocks/000")
    other.pull()
    (one.local / "blocks/000/a.safetensors").unlink()
    write(one.local, {"blocks/000/latest.json": b'{"weights": "b"}', "blocks/000/b.safetensors": b"bbbbb"})
    one.push("blocks/000")
    write(other.local, {"blocks/000/mine": b"not shared", "store/level": b"not asked for"})
    other.pull("blocks/000")
    assert remote_files(url) == local_files(one.local)
    assert local_files(other.local) == local_files(one.local) | {"store/level": b"not asked for"}


def test_only_what_is_named_and_wanted_is_copied(url, tmp_path):
    one, other = SharedFolder(tmp_path / "one", url), SharedFolder(tmp_path / "other", url)
    write(one.local, {**FILES, "store/level_0.rgb": b"pixels"})
    one.push("plan.json", "blocks/000")
    assert remote_files(url) == FILES
    other.pull(wanted=lambda name: name.endswith(".json"))
    assert local_files(other.local).keys() == {"plan.json", "blocks/000/latest.json"}
    assert other.holds("blocks/000/a.safetensors", 4)
    assert not other.holds("blocks/000/a.safetensors", 5)
    assert not other.holds("blocks/000/c.safetensors", 4)


def test_a_second_pull_copies_what_has_changed_alone(url, tmp_path, monkeypatch):
    one, other = SharedFolder(tmp_path / "one", url), SharedFolder(tmp_path / "other", url)
    write(one.local, FILES)
    one.push("plan.json", "blocks/000")
    other.pull()
    copied = []
    download = SharedFolder._download
    monkeypatch.setattr(SharedFolder, "_download", lambda *given: (copied.append(given[-1]), download(*given)))
    other.pull()
    assert copied == []
    write(one.local, {"plan.json": b"[]"})  # of the same size
    one.push("plan.json")
    write(other.local, {"blocks/000/a.safetensors": b"spoiled"})
    other.pull()
    assert sorted(copied) == ["blocks/000/a.safetensors", "plan.json"]
    assert local_files(other.local) == FILES | {"plan.json": b"[]"}


def test_a_push_copies_what_has_changed_alone(url, tmp_path, monkeypatch):
    folder = SharedFolder(tmp_path / "one", url)
    copied = []
    upload = SharedFolder._upload
    monkeypatch.setattr(SharedFolder, "_upload", lambda *given: (copied.append(given[-1]), upload(*given)))
    write(folder.local, {**FILES, "blocks/000/log": b"10 steps"})
    for changed in (["blocks/000/log", *FILES], []):
        folder.push("plan.json", "blocks/000")
        assert sorted(copied) == sorted(changed)
        copied.clear()
    write(folder.local, {"blocks/000/log": b"20 steps"})  # of the same size
    folder.push("plan.json", "blocks/000")
    assert copied == ["blocks/000/log"]
    system, root = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{root}/blocks/000/log", b"another's")
    folder.push("plan.json", "blocks/000")
    assert remote_files(url) == local_files(folder.local)
    copied.clear()
    other = SharedFolder(tmp_path / "other", url)
    other.pull()
    other.push("plan.json", "blocks/000")
    assert copied == []


class CutOff(OSError):
    pass


@pytest.mark.parametrize("step", ["put_file", "mv"])
def test_a_push_that_is_cut_off_leaves_what_was_there(url, tmp_path, monkeypatch, step):
    folder = SharedFolder(tmp_path / "one", url)
    write(folder.local, FILES)
    folder.push("plan.json", "blocks/000")
    (folder.local / "blocks/000/a.safetensors").unlink()
    write(folder.local, {"blocks/000/latest.json": b'{"weights": "b"}', "blocks/000/b.safetensors": b"b" * 100})
    system = type(fsspec.core.url_to_fs(url)[0])
    whole = getattr(system, step)

    def half(self, source, target, **options):
        if "latest" not in source:
            return whole(self, source, target, **options)
        if step == "put_file":
            self.pipe_file(target, Path(source).read_bytes()[:3])
        raise CutOff("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(system, step, half)
        with pytest.raises(UserError, match=f"{url} failed .CutOff: the line is dead"):
            folder.push("blocks/000")
    found = remote_files(url)
    assert found.items() >= FILES.items()
    assert found.keys() - FILES.keys() <= {"blocks/000/b.safetensors"}
    folder.push("blocks/000")
    assert remote_files(url) == local_files(folder.local)


def test_json_comes_after_what_it_names_and_goes_before_it(tmp_path, monkeypatch):
    done = []
    for name in ("mv", "rm"):
        whole = getattr(MemoryFileSystem, name)

        def noted(self, *paths, name=name, whole=whole, **options):
            done.append((name, paths[-1].rpartition("/")[2]))
            return whole(self, *paths, **options)

        monkeypatch.setattr(MemoryFileSystem, name, noted)
    folder = SharedFolder(tmp_path / "one", f"memory://{uuid4()}/city")
    write(folder.local, {"points/checkpoint.json": b"{}", "points/c.safetensors": b"c", **FILES})
    folder.push("points", "blocks/000")
    moved = [name for kind, name in done if kind == "mv"]
    assert moved == ["c.safetensors", "a.safetensors", "checkpoint.json", "latest.json"]
    done.clear()
    for name in ("points/checkpoint.json", "points/c.safetensors"):
        (folder.local / name).unlink()
    write(folder.local, {"blocks/000/latest.json": b'{"weights": "b"}'})
    folder.push("blocks/000", "points")
    assert [name for kind, name in done if kind == "rm" and not name.endswith(".tmp")] == [
        "checkpoint.json",
        "c.safetensors",
    ]
    assert done.index(("mv", "latest.json")) < done.index(("rm", "checkpoint.json"))


def test_half_an_upload_of_another_is_not_pulled(url, tmp_path):
    folder = SharedFolder(tmp_path / "one", url)
    write(folder.local, FILES)
    folder.push("plan.json", "blocks/000")
    system, root = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{root}/blocks/000/.latest.json.17.tmp", b"{")
    other = SharedFolder(tmp_path / "other", url)
    other.pull()
    assert local_files(other.local) == FILES
    folder.push("blocks/000")
    assert remote_files(url) == FILES


def test_a_plain_folder_is_worked_in_where_it_is(tmp_path):
    folder = SharedFolder.at(tmp_path / "city")
    assert (folder.local, folder.url, folder.place) == (tmp_path / "city", None, str(tmp_path / "city"))
    folder.pull()
    folder.push("blocks")
    assert not folder.local.exists()
    assert SharedFolder.at("city").local == Path("city")


def test_a_url_has_one_copy_on_a_machine(url, tmp_path):
    one, same, other = SharedFolder.at(url), SharedFolder.at(f"{url}/"), SharedFolder.at(f"{url}2")
    assert one == same
    assert one.local.parent == other.local.parent == tmp_path / "cache"
    assert one.local != other.local
    assert one.place == url


def test_a_damaged_index_costs_only_copies(url, tmp_path):
    folder = SharedFolder(tmp_path / "one", url)
    write(folder.local, FILES)
    folder.push("plan.json", "blocks/000")
    other = SharedFolder(tmp_path / "other", url)
    for content in ("{", json.dumps([1])):
        write(other.local, {".shared.json": content.encode()})
        other.pull()
        assert local_files(other.local) == FILES


def test_a_protocol_that_nothing_installed_knows_is_named():
    with pytest.raises(UserError, match=r"^foo://x/y cannot be reached: Protocol not known: foo"):
        SharedFolder.at("foo://x/y")


def test_a_protocol_whose_package_is_missing_says_what_to_install(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError, match="s3://bucket/x cannot be reached: Install s3fs.*pip install"):
        SharedFolder.at("s3://bucket/x")


def test_what_lies_elsewhere_cannot_be_shared(url, tmp_path):
    folder = SharedFolder(tmp_path / "one", url)
    assert folder.relative(tmp_path / "one" / "a" / "b") == "a/b"
    with pytest.raises(UserError, match=f"elsewhere does not lie in {url}"):
        folder.relative(tmp_path / "elsewhere")


@pytest.mark.parametrize("url", ["memory://", "memory:///"])
def test_names_at_the_root_of_a_file_system_keep_their_first_letter(url, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    one = SharedFolder(tmp_path / "one", url)
    write(one.local, FILES)
    one.push("plan.json", "blocks/000")
    assert sorted(MemoryFileSystem.store) == sorted(f"/{name}" for name in FILES)
    other = SharedFolder.at(url)
    other.pull()
    assert local_files(other.local) == FILES
    assert other.holds("plan.json", 2)


class Evil(MemoryFileSystem):
    """Lists names that no folder has."""

    names: tuple[str, ...] = ()

    def find(self, path, **options):
        return {f"{path}/{name}": {"size": 1, "name": name} for name in self.names}

    def get_file(self, rpath, lpath, **options):
        Path(lpath).write_bytes(b"!")


@pytest.mark.parametrize("name", ["sub/../../ESC", "../ESC", "..", "a/../b", "linked/ESC"])
def test_no_name_that_another_machine_lists_leads_out_of_the_copy(name, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Evil(), "/there"))
    monkeypatch.setattr(Evil, "names", ("fine.json", name))
    folder = SharedFolder.at("memory://there")
    folder.local.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder.local / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="not a name of a file|leads out of"):
        folder.pull()
    assert not any(path.name == "ESC" for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "url",
    [
        "zip://x::file:///a.zip",
        "zip:///a.zip",
        "simplecache::s3://b/x",
        "filecache://x",
        "github://a:b@/",
        "dask://x",
        "jlab://x",
        "s3://b/x::zip://y",
        "ftp://x/y",
        "reference://x",
        "blockcache::https://x/y",
    ],
)
def test_archives_caches_and_chains_are_no_folders(url, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(UserError, match="is not an allowed URL"):
        SharedFolder.at(url)


def test_what_a_file_names_is_fetched_only_where_a_command_has_named_it(url, tmp_path, monkeypatch):
    SharedFolder(tmp_path / "one", url)
    write(tmp_path / "one", FILES)
    SharedFolder(tmp_path / "one", url).push("plan.json")
    with pytest.raises(UserError, match="nothing is fetched from there unasked.*--data-root '[a-z]+://"):
        SharedFolder.named_by(tmp_path / "scene.json", url, "--data-root")
    assert not (tmp_path / "cache").exists() or not local_files(tmp_path / "cache")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stderr", Terminal())
    with pytest.raises(UserError, match="unasked"):
        SharedFolder.named_by(tmp_path / "scene.json", url, "--data-root")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert SharedFolder.named_by(tmp_path / "scene.json", url, "--data-root").url == url
    SharedFolder.at(url).pull()  # as --data-root does
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert SharedFolder.named_by(tmp_path / "scene.json", url, "--data-root").url == url
    assert SharedFolder.named_by(tmp_path / "scene.json", str(tmp_path), "--data-root").url is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
