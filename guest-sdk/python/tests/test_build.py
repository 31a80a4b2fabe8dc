"""What `courier_sdk.build` makes of a file, short of the component itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from courier_sdk import build


@pytest.fixture
def write(tmp_path: Path):
    count = 0

    def write(text: str) -> Path:
        nonlocal count
        count += 1
        # Each under a name of its own: Python keeps what it has imported.
        file = tmp_path / f"handler_{abs(hash(str(tmp_path)))}_{count}.py"
        file.write_text("from courier_sdk import *\n" + text)
        return file

    yield write
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


def test_the_world_imports_what_the_handler_declares_and_nothing_else(write) -> None:
    _, plain = build.load(write("@handler(group='g')\ndef handle(e: dict): pass\n"))
    world = build.world(plain)
    assert "import courier:plugin/log@2.0.0;" in world and world.count("import ") == 1
    _, full = build.load(write("@handler(publishes=['t'], uses=['state', 'http'])\ndef handle(e: dict): pass\n"))
    world = build.world(full)
    for name in ("courier:plugin/publish@2.0.0", "courier:plugin/state@2.0.0", "wasi:http/outgoing-handler@0.2.12"):
        assert f"import {name};" in world
    assert "cache" not in world and "config" not in world
    _, batch = build.load(write("@batch_handler(uses=['state'])\ndef handle(items: list): return []\n"))
    assert "import courier:plugin/batch-state@2.0.0;" in build.world(batch) and "handle-batch" in build.world(batch)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def handle(e): pass\n", "has no handler: put @handler(..)"),
        ("@handler()\ndef a(e: dict): pass\n@handler()\ndef b(e: dict): pass\n", "has 2 handlers (a, b)"),
        ("import no_such_module\n", ".py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:\n", ".py:2: SyntaxError"),
        ("@handler(topics='order')\ndef handle(e: dict): pass\n", ".py:2: TypeError: topics is the text 'order'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(write, code: str, why: str) -> None:
    with pytest.raises(build.Wrong) as wrong:
        build.load(write(code))
    assert why in str(wrong.value), wrong.value


def test_a_use_that_is_not_declared_is_refused_with_its_line(write) -> None:
    file = write("@handler(uses=['cache'])\ndef handle(e: dict, ctx: Context):\n    ctx.cache.get('a')\n    ctx.state.get('a')\n")
    _, handler = build.load(file)
    with pytest.raises(build.Wrong, match=r"\.py:5: ctx.state is used and not declared: add uses=\['cache', 'state'\]"):
        build.check_uses(file, handler)
    file = write("@handler()\ndef handle(e: dict, ctx: Context):\n    ctx.publish('t', e)\n")
    with pytest.raises(build.Wrong, match="add publishes="):
        build.check_uses(file, build.load(file)[1])


def test_the_section_says_what_the_handler_wants(write) -> None:
    _, handler = build.load(write("@handler(topics=['order'], publishes=['t'])\ndef handle(e: dict): pass\n"))
    about = build.about(handler, "greeter")
    assert about["group"] == "greeter" and about["isolation"] == "instance" and about["publishes"] == ["t"]
    section = build.section(about)
    assert section[0] == 0 and section[3:19] == b"\x0fcourier:handler"
    assert len(section) == 3 + (section[1] & 0x7F | section[2] << 7)
    assert json.loads(section[19:]) == about


def test_the_contract_is_the_one_that_the_host_serves() -> None:
    here = Path(build.__file__).parent / "wit/deps/courier.wit"
    original = Path(__file__).parents[3] / "wit/v2/courier.wit"
    assert here.read_text() == original.read_text()
