"""Pairs are the same on every machine, or a trained checkpoint's figures are not."""

import os
import subprocess
import sys


def test_pairs_are_the_same_on_other_processors() -> None:
    """NumPy computes differently without the vector units that it found on this machine."""
    program = (
        "import hashlib, numpy; from train.data.synthetic.pairs import make_pairs;"
        "from train.data.synthetic.scene import ProceduralPortraits;"
        "examples, _ = make_pairs(ProceduralPortraits(8, 0), 0, range(8));"
        "content = b''.join(e['image'] + e['mask'] for e in examples);"
        "found = numpy.show_config('dicts')['SIMD Extensions'].get('found', []);"
        "print(hashlib.sha256(content).hexdigest(), *found)"
    )

    def run(without: list[str]) -> list[str]:
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(without)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    digest, *units = run([])
    for without in (units, units[1:]):
        assert run(without)[0] == digest
