"""What a stretch of the process used."""

import subprocess
import sys

import numpy as np

from pipeline.usage import measured

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_the_processor_seconds_of_ended_children_count():
    with measured() as usage:
        subprocess.run([sys.executable, "-c", BURN], check=True)
    assert usage.processor_seconds >= 0.3


def test_the_peak_counts_memory_that_was_given_back():
    with measured() as before:
        pass
    with measured() as usage:
        np.ones(32 * 1024**2).sum()  # 256 MiB
    assert usage.peak_memory_bytes > before.peak_memory_bytes + 200 * 1024**2


def test_what_is_free_is_given_back():
    """Freed blocks below one that is not: the C library alone keeps them."""
    code = (
        "import re, pathlib; from pipeline.usage import give_back\n"
        "size = lambda: int(re.search(r'VmRSS:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) // 1024\n"
        "blocks = [bytes(1000) for _ in range(200_000)]; last = bytes(1000); full = size()\n"
        "del blocks; before = size(); give_back(); print(full, before, size())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    full, before, after = map(int, done.stdout.split())
    assert before > full - 50, "else nothing is shown"
    assert after < full - 150
