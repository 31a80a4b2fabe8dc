"""`python -m courier_sdk.build`: a handler into a component, by componentize-py.

The world is made for the handler: it imports the log and what `uses` and
`publishes` declare, and nothing else of the contract. What the handler says
about itself goes into the component's section `courier:handler`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from .handler import Handler

HERE = Path(__file__).resolve().parent
WORLD = "courier-handler"
ENTRY = "courier_component"
SECTION = b"courier:handler"
CONTRACT = "courier:plugin/{}@2.0.0"
HTTP = "wasi:http/outgoing-handler@0.2.12"

REUSE = "instance"
"""A fresh Python costs milliseconds a message, a used one a fraction of that."""

_CONTEXT_PARTS = {"publish": "publish", "publish_raw": "publish", "secret": "config"}


class Wrong(Exception):
    """What is wrong with a handler, in a sentence for who wrote it."""


def main() -> int:
    """Builds what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m courier_sdk.build", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the file of the handler, as handler.py")
    parser.add_argument("--output", type=Path, required=True, help="the component to write")
    parser.add_argument("--name", default="", help="the plugin's name; the decorator's or the folder's otherwise")
    arguments = parser.parse_args()
    try:
        build(arguments.file, arguments.output, arguments.name)
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


def build(file: Path, output: Path, name: str = "") -> None:
    """Makes a component of the only handler in a file."""
    file = file.resolve()
    attribute, handler = load(file)
    check_uses(file, handler)
    plugin = name or handler.name or file.parent.name
    with tempfile.TemporaryDirectory(prefix="courier-") as made:
        temporary = Path(made)
        (temporary / "wit").mkdir()
        (temporary / "wit/world.wit").write_text(world(handler))
        shutil.copytree(HERE / "wit/deps", temporary / "wit/deps")
        (temporary / "app").mkdir()
        (temporary / "app" / f"{ENTRY}.py").write_text(entry(file, attribute))
        component = temporary / "component.wasm"
        componentize(temporary, file.parent, component)
        component.write_bytes(component.read_bytes() + section(about(handler, plugin)))
        shutil.copyfile(component, output)


def load(file: Path) -> tuple[str, Handler]:
    """Imports a file and finds its handler, with the name that it has there."""
    if not file.stem.isidentifier():
        raise Wrong(f"{file.name} is no name that Python can import: call it handler.py")
    sys.path.insert(0, str(file.parent))
    try:
        module = importlib.import_module(file.stem)
    except Exception as problem:
        own = [frame for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename).parent == file.parent]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else f"{file.name}: "
        if isinstance(problem, SyntaxError):
            place = f"{Path(problem.filename or file).name}:{problem.lineno}: "
        raise Wrong(f"{place}{type(problem).__name__}: {problem}") from None
    found = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, Handler)}
    if len(found) != 1:
        names = ", ".join(name for name, _ in found.values())
        raise Wrong(
            f"{file.name} has {len(found)} handlers ({names}): a component has one"
            if found
            else f"{file.name} has no handler: put @handler(..) of courier_sdk on the function"
        )
    return next(iter(found.values()))


def check_uses(file: Path, handler: Handler) -> None:
    """Refuses a handler that visibly uses what it does not declare."""
    function = inspect.unwrap(handler.function)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) < 2 or Path(function.__code__.co_filename).resolve() != file:
        return
    context, first = parameters[1], function.__code__.co_firstlineno
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function.__name__]
    for node in (part for body in bodies if body.end_lineno and body.end_lineno >= first for part in ast.walk(body)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == context:
            use = _CONTEXT_PARTS.get(node.attr, node.attr)
            if use in ("publish", "state", "cache", "config", "http") and use not in handler.uses:
                remedies = {"publish": "publishes=[..] with its topics", "http": 'http=["HOST:PORT"]'}
                remedy = remedies.get(use, f"uses={[*handler.uses, use]}")
                raise Wrong(
                    f"{file.name}:{node.lineno}: {context}.{node.attr} is used and not declared: add {remedy} to "
                    f"@{handler.world.replace('-', '_')}(..)"
                )


def world(handler: Handler) -> str:
    """The world of a handler, in WIT."""
    batch = "batch-" if handler.is_batch else ""
    names = {"publish": f"{batch}publish", "state": f"{batch}state"}
    imports = [HTTP if use == "http" else CONTRACT.format(names.get(use, use)) for use in handler.uses]
    lines = [f"    import {name};" for name in [*imports, CONTRACT.format("log")]]
    if handler.is_batch:
        lines.append(f"    use {CONTRACT.format('types')}.{{delivery, failure}};")
        lines.append("    export handle-batch: func(items: list<delivery>) -> list<result<_, failure>>;")
    else:
        lines.append(f"    use {CONTRACT.format('types')}.{{message, attempt, failure}};")
        lines.append("    export handle: func(message: message, attempt: attempt) -> result<_, failure>;")
    return "\n".join(["package courier:handler;", "", f"world {WORLD} {{", *lines, "}", ""])


def entry(file: Path, attribute: str) -> str:
    """The module that componentize-py starts from.

    A component has no files, so what a function imports only when it is called
    is imported while the component is made.
    """
    late: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            late.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != "__future__":
            late.add(node.module)
    imports = [f"try:\n    import {name}\nexcept ImportError:\n    pass" for name in sorted(late)]
    return "\n".join([*imports, "import courier_sdk.wire", f"import {file.stem} as module", ""]) + (
        f"WitWorld = courier_sdk.wire.world(module.{attribute})\n"
    )


def componentize(temporary: Path, folder: Path, component: Path) -> None:
    """Runs componentize-py; its complaints are put into a sentence."""
    paths = [temporary / "app", folder, HERE.parent, *map(Path, _site_packages())]
    command = [sys.executable, "-c", "from componentize_py import script; script()", "--quiet"]
    command += ["--wit-path", str(temporary / "wit"), "--world", WORLD, "componentize", ENTRY]
    for path in dict.fromkeys(paths):
        command += ["--python-path", str(path)]
    command += ["--output", str(component)]
    environment = {**os.environ, "RUST_BACKTRACE": "0", "RUST_LIB_BACKTRACE": "0"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode == 0 and component.is_file():
        return
    said = (ran.stderr or ran.stdout).strip()
    inner = re.findall(r"^\s*((?:\w+\.)*\w*(?:Error|Exception)\b.*)$", said, re.MULTILINE)
    reasons = [line for line in inner if not line.startswith("AssertionError")]
    frames = re.findall(rf'File "[^"]*?/({re.escape(folder.name)}/)?([\w-]+\.py)", line (\d+)', said)
    own = [f"{name}:{line}: " for _, name, line in frames if (folder / name).is_file()]
    if "ModuleNotFoundError" in said or "ImportError" in said:
        why = reasons[-1] if reasons else "an import failed"
        raise Wrong(
            f"{own[-1] if own else ''}{why}: it cannot be imported in WebAssembly; list packages in requirements.txt, and only such "
            "as are written in Python alone"
        )
    raise Wrong(f"componentize-py failed: {own[-1] if own else ''}{reasons[-1] if reasons else said[-2000:]}")


def _site_packages() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def about(handler: Handler, plugin: str) -> dict[str, object]:
    """What a component says about itself."""
    return {
        "name": plugin,
        "world": handler.world,
        "group": handler.group or plugin,
        "topics": handler.topics,
        "types": handler.types,
        "publishes": handler.publishes,
        "http": handler.http,
        "uses": handler.uses,
        "isolation": REUSE,
        "language": "python",
    }


def section(content: dict[str, object]) -> bytes:
    """A custom section, to be appended to a component."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    body = _leb128(len(SECTION)) + SECTION + text
    return b"\0" + _leb128(len(body)) + body


def _leb128(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        encoded.append(low | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


if __name__ == "__main__":
    sys.exit(main())
