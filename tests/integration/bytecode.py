"""Keeping what hosts compile: a module comes with Ansible's own code as source in a zip, with each task.

Compiling it, and the methods that data classes generate, is most of what a task costs a host, and the tests run more
than two thousand. What is kept is found by the source itself, so a host runs what it would run without. Benchmarks and
the demo do without.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_runs import LiveFarm

_PACKAGES = "/usr/lib/python3/dist-packages"
#: In memory: files on a disk would be taken for what a task has changed.
_KEPT = "/run/tests-bytecode"
#: Python reads code from a zip as https://github.com/python/cpython/blob/3.8/Lib/zipimport.py does, ever since: twice,
#: once for a module's file name alone. Its dataclasses call exec with text.
_HOOK = f"""
import _imp, dataclasses, functools, marshal, os, zipimport

compile_source = zipimport._compile_source

def kept(path, source):
    name = "{_KEPT}/" + _imp.source_hash(0, source).hex()
    try:
        with open(name, "rb") as stream:
            code = marshal.loads(stream.read())
    except OSError:
        code = compile_source(path, source)
        try:
            os.makedirs("{_KEPT}", exist_ok=True)
            with open(f"{{name}}.{{os.getpid()}}", "wb") as stream:
                marshal.dump(code, stream)
            os.replace(stream.name, name)
        except OSError:
            # A full disk, or another user than root.
            pass
    _imp._fix_co_filename(code, path)
    return code

zipimport._compile_source = kept
zipimport._get_module_code = functools.lru_cache(maxsize=None)(zipimport._get_module_code)
dataclasses.exec = lambda source, *namespaces: exec(kept("<string>", source.encode()), *namespaces)
"""


def keep(farm: LiveFarm) -> None:
    """Let the Python of all hosts keep the code that it compiles from zips."""
    command = (
        f"cat > {_PACKAGES}/tests_bytecode.py && echo import tests_bytecode > {_PACKAGES}/tests_bytecode.pth"
        " && python3 -c 'import tests_bytecode'"
    )
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(farm.ssh, host.name, command, stdin=_HOOK) for host in farm.farm.hosts]:
            done.result()
