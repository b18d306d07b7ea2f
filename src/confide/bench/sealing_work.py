"""What a sealing benchmark asks for and what it gives: the plain data between the command and its processes."""

from dataclasses import dataclass

SCHEMES = (
    "plain",
    "published",
    "shared/compact",
    "shared/precise",
    "onetime/compact",
    "onetime/precise",
    "onetime/ultra",
)
"""Every row, as scheme/profile."""

BASELINE = "published"


@dataclass(frozen=True, kw_only=True)
class SealingWork:
    """One row's work.

    Attributes:
        scheme: of `SCHEMES`.
        num_values: of one client's update.
        num_clients: who all seal, and whose sum is opened; also the roster's size.
        repeats: passes in which everybody seals; openings of each sum.
        seed: of the updates, normal with standard deviation 0.02; keys and noise never come from a seed.
    """

    scheme: str
    num_values: int
    num_clients: int
    repeats: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class SealingRow:
    """What one scheme and profile took. CPU seconds are of one process with one thread.

    Attributes:
        scheme: without the profile.
        profile: "" where the scheme has none.
        num_values: of one client's update.
        num_clients: in the sum.
        seal_values_per_cpu_second: the fastest of all sealings (one client, one vector); from floats to bodies of
            frames, drawing the key aside.
        add_values_per_cpu_second: per client: values times clients over the seconds; from bodies to the sum's body, the
            checks included.
        open_values_per_cpu_second: from the sum's bodies and the released shares to floats.
        seal_cpu_seconds, add_cpu_seconds, open_cpu_seconds: every sample, in order.
        frame_cpu_seconds: signing one client's upload, in addition.
        key_cpu_seconds: for one client and round: drawing the key, sharing it, putting the shares in envelopes.
        upload_bytes_per_value: all that one client sends in a round: its framed vector, its envelopes, its released
            share, and the messages around them.
        download_bytes_per_value: all that one client gets in a round: the framed sum, the members' envelopes with key
            shares and with parts of the group key, the released shares that a server sends on, the list of members and
            its signatures, and the messages around them.
        vector_bytes_per_value: of the framed vector alone, with headers and signatures.
        key_bytes_per_peer: the envelopes of one client to one other in one round.
        seal_memory_mb: the most memory while one client seals and frames its vector and drops each frame, beyond what
            there was before, the vector included; 10**6 bytes.
        peak_mb: the most memory of the whole process, which holds all clients' updates.
        max_abs_error, rms_error: of the opened sum, against the sum of the updates in float64.
    """

    scheme: str
    profile: str
    num_values: int
    num_clients: int
    seal_values_per_cpu_second: float
    add_values_per_cpu_second: float
    open_values_per_cpu_second: float
    seal_cpu_seconds: tuple[float, ...]
    add_cpu_seconds: tuple[float, ...]
    open_cpu_seconds: tuple[float, ...]
    frame_cpu_seconds: float
    key_cpu_seconds: float
    upload_bytes_per_value: float
    download_bytes_per_value: float
    vector_bytes_per_value: float
    key_bytes_per_peer: float
    seal_memory_mb: float
    peak_mb: float
    max_abs_error: float
    rms_error: float

    @property
    def label(self) -> str:
        """As in `SCHEMES`."""
        return f"{self.scheme}/{self.profile}" if self.profile else self.scheme


@dataclass(frozen=True, kw_only=True)
class StreamingRow:
    """Sealing one long vector chunk by chunk, dropping every frame: what a client with a slow line does.

    Attributes:
        scheme: scheme/profile.
        num_values: of the vector.
        vector_mb: the vector itself, 10**6 bytes.
        memory_beyond_vector_mb: the most memory while sealing, beyond what there was before, the vector included.
        seal_values_per_cpu_second: frames and signatures included.
        upload_bytes_per_value: whole frames.
    """

    scheme: str
    num_values: int
    vector_mb: float
    memory_beyond_vector_mb: float
    seal_values_per_cpu_second: float
    upload_bytes_per_value: float


@dataclass(frozen=True, kw_only=True)
class ParallelRow:
    """Sealing one vector by several processes under one round key.

    Attributes:
        scheme: scheme/profile.
        num_processes: workers.
        num_values: of the vector.
        seal_values_per_second: by the clock on the wall, the fastest of the repeats.
        speed_up: over one worker in the same run.
        handing_out_share: CPU seconds of the process that hands out chunks and collects bodies, over those that sealing
            the same vector in one process takes. It is what limits more processes on free cores: to 1 / share times the
            speed of one. Unlike `speed_up` it means the same on a busy machine.
    """

    scheme: str
    num_processes: int
    num_values: int
    seal_values_per_second: float
    speed_up: float
    handing_out_share: float
