"""What must never stand in the sources, whoever writes them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "blocknerf").rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ("src", "tests", "docs", "configs", "benchmarks", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".yaml", ".toml", ".html", ".css", ".js", ""} and path.is_file()
) + [path for path in ROOT.iterdir() if path.suffix in {".md", ".py", ".toml"} or path.name == "Makefile"]


PRONOUNS = {"elsewhere", "here", "mine", "ours", "own", "said", "shown", "some", "theirs", "there", "told"}
"""No name begins with one of these: a variable, parameter, attribute, function or class has a noun or a verb."""
CLUMSY = re.compile(
    r"\b(?:go|goes|going|gone|went) on (?:with|from)\b|\bto go on\b|\bleft out of\b|[;,(] ?none:"
    r"|\b(?:is|are|was|were|be|been) told\b"
)
"""In place of "resumes", "skipped", "Default:" and a plain verb."""
WORDED = [
    path
    for path in TEXTS
    if path.relative_to(ROOT).parts[0] in {"src", "benchmarks", "docs", "README.md"}
    and path.suffix in {".py", ".md"}
    and path.name != "log.md"
]
KEYS_OF_FILES = {"src/blocknerf/scene/readers/waymo.py": {"own_rays"}}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_sources_are_where_this_test_looks():
    assert len(SOURCES) > 20
    assert len(TEXTS) > len(SOURCES)


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_no_path_of_one_machine(path):
    found = re.findall(r"(?<![\w.])/(?:work|home|root|Users)/[\w./-]*", path.read_text(encoding="utf-8"))
    assert found in ([], ["/" + "work/"]) if path == Path(__file__) else found == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_pickle_no_print_no_loose_end(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint({"pickle", "dill", "__future__", "pdb"})
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert set(attributes).isdisjoint({"torch.save", "torch.manual_seed", "np.random.seed", "random.seed"})
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    safe = [call for call in calls if "weights_only=True" in map(ast.unparse, call.keywords)]
    assert attributes.count("torch.load") == len(safe)
    assert re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text) is None


def test_nothing_changes_where_modules_are_looked_for():
    files = [path for path in TEXTS if path.suffix == ".py"]
    changing = [path for path in files if re.search(r"\bsys\.path\.\w+\(", path.read_text(encoding="utf-8"))]
    assert changing == []


def bound_names(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
                names.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                names.add(name)
    return names


def pronouns_in(tree: ast.AST) -> set[str]:
    return {name for name in bound_names(tree) if name.strip("_").split("_")[0].lower() in PRONOUNS}


@pytest.mark.parametrize("path", [path for path in TEXTS if path.suffix == ".py"], ids=relative)
def test_names_are_nouns_and_verbs_and_no_pronouns(path):
    found = pronouns_in(ast.parse(path.read_text(encoding="utf-8")))
    assert found == KEYS_OF_FILES.get(relative(path), set())


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("told = 1", "told"),
        ("self._said = 1", "_said"),
        ("def own_names(): ...", "own_names"),
        ("def names(*, shown_ground): ...", "shown_ground"),
        ("class Here: ...", "Here"),
        ("OWN_RAYS: int = 1", "OWN_RAYS"),
        ("[some for some in names]", "some"),
        ("import numpy as theirs", "theirs"),
        ("with open(path) as there: pass", "there"),
        ("is_there, shows, owner, someone = there", None),
    ],
)
def test_the_look_for_pronouns_sees_them(code, name):
    assert pronouns_in(ast.parse(code)) == ({name} if name else set())


def clumsy_words(text: str) -> list[str]:
    """Also those that are broken over two lines, of a text or of comments."""
    return CLUMSY.findall(" ".join(re.sub(r"^\s*#", " ", text, flags=re.MULTILINE).split()))


@pytest.mark.parametrize("path", WORDED, ids=relative)
def test_usual_words_are_used(path):
    assert clumsy_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What training goes on from.", ["goes on from"]),
        ("Blocks that are gone on\n    with", ["gone on with"]),
        ("# where training was\n# told so", ["was told"]),
        ("one file; none: all of them", ["; none:"]),
        ("Stages that are left out of a run", ["left out of"]),
        ("Training resumes. The city goes on for miles, and the default is none: they told us.", []),
    ],
)
def test_the_look_for_clumsy_words_sees_them(text, found):
    assert clumsy_words(text) == found


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text == "" or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_one_decorator_compiles_and_one_file_knows_numba(path):
    """The decorator stamps what is kept by the sources of the files that it may stand in; private names change."""
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    imported = {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    attributes = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    compilers = {f"numba.{name}" for name in ("jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc")}
    assert compilers.isdisjoint(imported | attributes) or path.name == "compiled.py"
    private = re.search(r"\bnumba\.(core|np|experimental)\b|\._cache_file\b|\.call_conv\b|\._insert\(", text)
    assert private is None or path.name == "numba_internals.py"
    decorators = [ast.unparse(each) for node in nodes for each in getattr(node, "decorator_list", ())]
    is_stamped = path.name.endswith("numba.py") or path.parent.name == "jit"
    assert is_stamped or not any(re.match(r"(compiled|kernel|worker_body|built_in)\b", each) for each in decorators)


BY_NAME = {  # functions that change the disk, by their last name
    "unlink",
    "rmtree",
    "mkdir",
    "makedirs",
    "rmdir",
    "removedirs",
    "touch",
    "write_text",
    "symlink_to",
    "hardlink_to",
    "rename",
    "renames",
    "tofile",
    "savefig",
    "export",
    "fsync",
    "fdatasync",
    "ftruncate",
    "posix_fallocate",
    "pwrite",
    "mkstemp",
    "mkdtemp",
    "TemporaryDirectory",
    "NamedTemporaryFile",
    "copyfile",
    "copytree",
    "copy2",
    "savez",
    "save_file",
    "FileHandler",
    "SummaryWriter",
    "write_binary",
    "set_log_destination",
    "open_memmap",
}
BY_WHOLE_NAME = {
    "os.replace",
    "os.remove",
    "os.link",
    "os.symlink",
    "os.write",
    "np.save",
    "np.savetxt",
    "shutil.copy",
    "shutil.move",
}
MAY_CHANGE_DISK = {  # what changes the disk without core.disk, and why it may
    "cli/completion.py": "prints",
    "core/caches.py": "folders for what can be made again, one with rights of its own from its first moment",
    "core/disk.py": "is the layer",
    "core/lock.py": "locks vanish with their process; a file that stays behind is no lock",
    "core/plots.py: figure.savefig": "writes into memory",
    "core/shared_folder.py: system.makedirs": "on a URL",
    "core/logging.py: logging.FileHandler": "within disk.by_library; a line of a log that is lost is no loss",
    "diagnostics/memory.py": "a trace in the system's temporary folder, read and removed at once; and /proc",
    "export/mesh_file.py: scene.export": "writes into memory",
    "integrations/nerfbaselines.py": "a folder of this process alone, removed with it",
    "prepare/colmap.py: logging.set_log_destination": "COLMAP's own log",
    "prepare/colmap.py: model.write_binary": "within disk.by_library, into a folder that takes its place when whole",
    "prepare/write_scene.py: model.write_binary": "in disk.by_library, into a folder that takes its place when whole",
    "export/orthophoto.py: rasterio.open": "within write_by_library",
    "export/video.py: av.open": "within write_by_library",
    "kernels/jit/precompile.py: os.write": "into a pipe",
    "training/block/metrics.py: SummaryWriter": "within disk.by_library; curves are no state, and may end",
}


def changes_disk(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name.startswith("disk."):
        return False
    last = name.rpartition(".")[2]
    if last == "open" and isinstance(call.func, ast.Attribute | ast.Name):
        return any(is_mode_of_writing(value) for value in (*call.args, *(keyword.value for keyword in call.keywords)))
    if last == "memmap" or last == "Path.open":
        return any(is_mode_of_writing(value) for value in call.args)
    if last == "replace" and isinstance(call.func, ast.Attribute) and name != "dataclasses.replace":
        return name in BY_WHOLE_NAME or (len(call.args) == 1 and not call.keywords)
    if last == "save" and isinstance(call.func, ast.Attribute):
        into_memory = call.args and ast.unparse(call.args[0]) == "content"
        return bool(call.args) and not into_memory and name != "safetensors.torch.save"
    return (isinstance(call.func, ast.Attribute) or last in {"SummaryWriter"}) and (
        last in BY_NAME or name in BY_WHOLE_NAME
    )


def is_mode_of_writing(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Constant)
        and isinstance(value.value, str)
        and value.value
        in {f"{a}{b}{c}" for a in "wax" for b in ("", "b", "t") for c in ("", "+")} | {"r+", "r+b", "rb+"}
    )


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_what_changes_the_disk_goes_through_one_layer(path):
    name = path.relative_to(ROOT / "src" / "blocknerf").as_posix()
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    found = {ast.unparse(call.func) for call in calls if changes_disk(call)}
    assert name in MAY_CHANGE_DISK or {call for call in found if f"{name}: {call}" not in MAY_CHANGE_DISK} == set()


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("path.unlink()", True),
        ("shutil.rmtree(folder)", True),
        ("os.replace(a, b)", True),
        ("path.replace(target)", True),
        ("path.open('wb')", True),
        ("open(path, 'w')", True),
        ("path.write_text('')", True),
        ("image.save(path)", True),
        ("np.memmap(path, dtype, 'w+')", True),
        ("disk.unlink(path)", False),
        ("name.replace('a', 'b')", False),
        ("image.save(content, 'PNG')", False),
        ("path.open('rb')", False),
        ("trainer.save()", False),
    ],
)
def test_the_look_for_such_calls_sees_them(code, caught):
    assert changes_disk(ast.parse(code, mode="eval").body) == caught


EVERYWHERE = [path for folder in ("src", "benchmarks", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def unpacked_literals(code: str) -> list[int]:
    """Lines of calls such as f(*(a, b)), which hide how many arguments there are."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    stars = [argument for call in calls for argument in call.args if isinstance(argument, ast.Starred)]
    return [star.lineno for star in stars if isinstance(star.value, ast.Tuple)]


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_formatter_decides_and_calls_say_their_arguments(path):
    code = path.read_text(encoding="utf-8")
    assert f"# fmt: {'skip'}" not in code
    assert unpacked_literals(code) == []


def test_unpacked_literals_are_seen():
    assert unpacked_literals("f(*(a, b), c)\nf(*found)\nf((a, b))") == [1]
