"""TEMP"""

from __future__ import annotations
import hashlib
from .platform import runs_natively


def preference(image, platform, nodes):
    return tuple(
        sorted(nodes, key=lambda n: hashlib.sha256(f"{image}\0{platform}\0{n}".encode()).digest(), reverse=True)
    )


def spread(jobs, candidates):
    found, loads = {}, {}
    for job in sorted(set(jobs), key=str):
        image, platform = job
        nodes = candidates[platform]
        cap = -(-len({j for j in jobs if j[1] == platform}) // len(nodes))
        order = preference(image, platform, nodes)
        first = next((n for n in order if loads.get((platform, n), 0) < cap), order[0])
        loads[(platform, first)] = loads.get((platform, first), 0) + 1
        found[job] = (first, *(n for n in order if n != first))
    return found


def eligible(platform, workers, emulation):
    serving = [w for w in workers if platform in w.pins]
    native = [w for w in serving if w.native is None or runs_natively(platform, w.native)]
    if emulation == "forbid" or (emulation == "prefer_native" and native):
        serving = native
    return tuple(w.name for w in serving)
