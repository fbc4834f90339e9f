"""Runs the page's own scripts in Node, without a browser and without npm."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from lesionseg.app.building import SOURCES

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no Node here")


def run_script(body: str, **values: Any) -> Any:
    """What ``body`` returns: statements that may ``await load("resize.js")`` and read ``values``; both ways as JSON."""
    program = f"""
        const load = (name) => import({json.dumps(f"{SOURCES.as_uri()}/src/")} + name);
        const chunks = [];
        for await (const chunk of process.stdin) chunks.push(chunk);
        const values = JSON.parse(Buffer.concat(chunks).toString());
        const result = await (async () => {{ {body} }})();
        process.stdout.write(JSON.stringify(result ?? null));
    """
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", program],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
