"""Decodes, resizes, augments and scales pictures with Pillow in a pool of processes.

    python pillow_pool.py PROCESSES BATCH_SIZE SIZE < PASSES

The first line of the input is a JSON object: ``files``, and ``mean`` and ``scale`` by channel.
Each further line is the number of a pass; the answer is a line with the seconds that it took.
Finished batches lie in memory that all processes share, as PyTorch's DataLoader hands them over.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

import numpy as np
from PIL import Image

shared = {}  # what a process of the pool is given once, because it cannot be sent with a job


class Batches:
    """Batches in shared memory: float32 [slots, batch size, size, size, 3]."""

    def __init__(self, slots: int, batch_size: int, size: int) -> None:
        self.shape = (slots, batch_size, size, size, 3)
        self.memory = multiprocessing.RawArray("f", int(np.prod(self.shape)))
        self.free = multiprocessing.Queue()
        for slot in range(slots):
            self.free.put(slot)

    @property
    def pixels(self) -> np.ndarray:
        return np.frombuffer(self.memory, np.float32).reshape(self.shape)


def start(batches: Batches, mean: list[float], scale: list[float]) -> None:
    """Leaves to a process of the pool what it needs for every batch."""
    shared.update(
        pixels=batches.pixels, free=batches.free, mean=np.float32(mean), scale=np.float32(scale)
    )


def fill(job: tuple[int, int, list[str]]) -> tuple[int, int]:
    """Fills a free slot with the pictures of one job; returns the slot and their number."""
    epoch, first, files = job
    slot = shared["free"].get()
    batch = shared["pixels"][slot]
    for row, file in enumerate(files):
        random = np.random.default_rng([epoch, first + row])
        picture = augmented(read(file, batch.shape[1]), random)
        batch[row] = (picture - shared["mean"]) * shared["scale"]
    return slot, len(files)


def read(file: str, size: int) -> np.ndarray:
    """uint8 [size, size, 3]."""
    with Image.open(file) as picture:
        resized = picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def augmented(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Moved by up to an eighth over a black ground, and mirrored half of the time."""
    size = len(picture)
    reach = size // 8
    y, x = random.integers(-reach, reach, 2, endpoint=True)
    moved = np.zeros_like(picture)
    there_y, there_x = (slice(max(d, 0), size + min(d, 0)) for d in (y, x))
    here_y, here_x = (slice(max(-d, 0), size + min(-d, 0)) for d in (y, x))
    moved[there_y, there_x] = picture[here_y, here_x]
    return moved[:, ::-1] if random.random() < 0.5 else moved


def main(processes: int, batch_size: int, size: int) -> None:
    work = json.loads(sys.stdin.readline())
    files = work["files"]
    batches = Batches(2 * processes, batch_size, size)
    with multiprocessing.Pool(processes, start, (batches, work["mean"], work["scale"])) as pool:
        for line in sys.stdin:
            started = time.perf_counter()
            jobs = [
                (int(line), first, files[first : first + batch_size])
                for first in range(0, len(files), batch_size)
            ]
            seen = 0
            for slot, count in pool.imap(fill, jobs):
                seen += count
                batches.free.put(slot)
            assert seen == len(files)
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
