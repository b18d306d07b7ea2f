"""Sealing of one vector by several processes under the same round key: scheme `onetime` on several cores.

SEAL holds the interpreter's lock, so threads would wait for each other. Chunks are independent: each is sealed against
public polynomials of its own, and each goes to one worker.

What leaves this process stays on this machine: the round key goes to the workers through a pipe, as plain bytes, the
values through shared memory of which every worker sees its own part. Nothing is pickled, and both are overwritten or
dropped at the end of the vector.

    with SealingWorkers(profile, 4) as workers:
        client = OneTimeClient(profile, roster, threshold, sealer=workers)

Workers are started as Python's `multiprocessing` does with "spawn": a script that makes them needs the usual
`if __name__ == "__main__":`.
"""

import struct
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import NoReturn

import numpy as np

from confide.errors import ConfideError, NonFiniteUpdateError, RunError, SealError, SecretKeyError
from confide.seal.commonpoly import SEED_BYTES, round_seed
from confide.seal.onetime import seal_chunk
from confide.seal.profiles import Profile, get_profile
from confide.seal.ring import Ring, RingSecret
from confide.seal.scheme import SealContext
from confide.update import Vector

_KEY, _CHUNK, _FORGET = b"K", b"C", b"F"
_BODY, _ERROR = b"B", b"E"
_ROUND = struct.Struct(f"<{SEED_BYTES}sd")  # seed of the common polynomials, limit; the secret's coefficients follow
_PART = struct.Struct("<II")  # number of the chunk, number of its values
_ERRORS: tuple[type[RunError], ...] = (NonFiniteUpdateError, SecretKeyError, SealError)
_STOP_SECONDS = 5


class SealingWorkers:
    """Processes that seal for one client, one vector at a time; see `confide.seal.onetime.ChunkSealer`.

    Memory: for each process one chunk of values in shared memory, and what sealing one chunk takes.

    Args:
        profile: of scheme "onetime".
        num_processes: how many, > 0.

    Guarantees:
        - Every chunk of a vector is sealed by exactly one worker, once.
    """

    def __init__(self, profile: Profile, num_processes: int) -> None:
        if num_processes < 1:
            raise ValueError(f"expected at least 1 process, got {num_processes}")
        self._profile = profile
        self._is_busy = False
        self._workers: list[_Worker] = []
        try:
            for _ in range(num_processes):
                self._workers.append(_Worker(profile))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SealingWorkers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretKeyError("sealing processes cannot be copied or pickled")

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def chunks(self, secret: RingSecret, context: SealContext, values: Vector) -> Iterator[bytes]:
        """See `ChunkSealer.chunks`.

        Raises:
            SealError: the workers are at another vector, or one of them ended.
        """
        if self._is_busy or not self._workers:
            raise SealError("the sealing processes are at work for another vector, or closed")
        self._is_busy = True
        try:
            self._hand_out(secret, context)
            yield from self._in_turns(values)
        finally:
            for worker in self._workers:
                worker.forget()
            self._is_busy = False

    def _hand_out(self, secret: RingSecret, context: SealContext) -> None:
        seed = round_seed(self._profile.digest, context.run, context.round_number)
        key = _ROUND.pack(seed, context.limit) + secret.coefficients().astype(np.int8).tobytes()
        for worker in self._workers:
            worker.send(_KEY + key)

    def _in_turns(self, values: Vector) -> Iterator[bytes]:
        """Chunk i goes to worker i modulo their number; as soon as a worker has answered, it gets its next."""
        size = self._profile.chunk_values
        parts = [values[start : start + size] for start in range(0, values.size, size)]
        step = len(self._workers)
        for chunk, part in enumerate(parts[:step]):
            self._workers[chunk].start(chunk, part)
        for chunk in range(len(parts)):
            worker = self._workers[chunk % step]
            body = worker.finish()
            if chunk + step < len(parts):
                worker.start(chunk + step, parts[chunk + step])
            yield body


class _Worker:
    """One process, seen from here: its end of the pipe, and the memory shared with it."""

    def __init__(self, profile: Profile) -> None:
        spawn = get_context("spawn")
        self._memory = SharedMemory(create=True, size=profile.chunk_values * np.dtype(np.float32).itemsize)
        self._slot = _slot(self._memory, profile)
        self._pipe, far_end = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(far_end, self._memory.name, profile.name), daemon=True)
        self._process.start()
        far_end.close()
        self._owes_answer = False

    def start(self, chunk: int, values: Vector) -> None:
        """Has a chunk sealed."""
        self._slot[: values.size] = values
        self.send(_CHUNK + _PART.pack(chunk, values.size))
        self._owes_answer = True

    def finish(self) -> bytes:
        """The chunk that was started last."""
        try:
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise SealError("a sealing process ended before its chunk was done") from error
        finally:
            self._owes_answer = False
        if answer[:1] == _ERROR:
            raise _ERRORS[answer[1]](answer[2:].decode())
        return answer[1:]

    def forget(self) -> None:
        """Drops key and values, and an answer that nobody waits for any more."""
        self._slot[:] = 0
        try:
            if self._owes_answer:
                self._owes_answer = False
                self._pipe.recv_bytes()
            self._pipe.send_bytes(_FORGET)
        except (EOFError, OSError):
            return  # it ended, and its memory with it

    def send(self, message: bytes) -> None:
        try:
            self._pipe.send_bytes(message)
        except OSError as error:
            raise SealError("a sealing process ended") from error

    def close(self) -> None:
        self._pipe.close()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        del self._slot
        self._memory.close()
        self._memory.unlink()


def _slot(memory: SharedMemory, profile: Profile) -> Vector:
    slot: Vector = np.ndarray((profile.chunk_values,), np.float32, memory.buf)
    return slot


def _work(pipe: Connection, memory_name: str, profile_name: str) -> None:
    """The worker: seals what it is told until the pipe is closed."""
    profile = get_profile("onetime", profile_name)
    memory = SharedMemory(memory_name)
    slot = _slot(memory, profile)
    try:
        _answer_all(pipe, slot, Ring(profile))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the other side is gone, or is being stopped as well
    finally:
        del slot
        memory.close()


def _answer_all(pipe: Connection, slot: Vector, ring: Ring) -> None:
    secret: RingSecret | None = None
    seed, limit = b"", 0.0
    while True:
        message = pipe.recv_bytes()
        if message[:1] == _KEY:
            seed, limit = _ROUND.unpack_from(message, 1)
            secret = ring.restore_secret(np.frombuffer(message, np.int8, offset=1 + _ROUND.size).astype(np.int64))
        elif message[:1] == _FORGET or secret is None:
            secret = None
        else:
            chunk, num_values = _PART.unpack_from(message, 1)
            try:
                body = seal_chunk(ring, secret, slot[:num_values], seed=seed, limit=limit, chunk=chunk)
                pipe.send_bytes(_BODY + body)
            except ConfideError as error:
                pipe.send_bytes(_ERROR + bytes([_kind(error, _ERRORS)]) + str(error).encode())
        del message


def _kind(error: ConfideError, kinds: Sequence[type[RunError]]) -> int:
    """The number of an error's kind; the last one stands for all others."""
    return next((number for number, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds) - 1)
