"""What the bytes of an audio file say of its length, where libsndfile believes the header or guesses.

libsndfile takes a WAV, AIFF, W64, CAF or AU file that was cut off for a shorter one, reads nothing of a WAV stream
whose sizes are 0, and guesses the length of an MP3 file that has no Xing or Info frame, beyond which it does not read.
"""

from __future__ import annotations

import io
from typing import IO, Literal, NamedTuple, TypeAlias

BinaryStream: TypeAlias = IO[bytes] | io.RawIOBase
_UNKNOWN_SIZES = (2**32 - 1, 0x7FFFF000)
"""What ffmpeg and SoX write into a WAV header that they cannot come back to."""

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_KBIT_S = {  # of layer 3 by whether it is MPEG 1; index 0 is free format, 15 is invalid
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_TAG_BITS = 9 << 4
"""Bit rate of a frame that is made here: the shortest frame of this index has room for an Info tag."""


def whole_stream(file: IO[bytes], where: str) -> BinaryStream | None:
    """Return what libsndfile reads to the end and no further.

    Args:
        file: open for reading, able to seek.
        where: names it in messages.

    Returns:
        A stream with a mended header over the same file; None for a file that may be read as it is.

    Raises:
        ValueError: the file is cut off, or holds several streams one after the other.
    """
    file.seek(0)
    magic = file.read(16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _wav(file, where, "big" if magic[:4] == b"RIFX" else "little")
    if magic[:4] == b"FORM":
        _require_inside(file, where, _data_chunk(file, 12, b"SSND", "big"))
    elif magic == _W64_RIFF:
        _require_inside(file, where, _data_chunk(file, 40, b"data", "little", name=16, size=8))
    elif magic[:4] == b"caff":
        data = _data_chunk(file, 8, b"data", "big", size=8)
        _require_inside(file, where, None if data is None or data.size == 2**64 - 1 else data)
    elif magic[:4] in (b".snd", b"dns."):
        order: Literal["little", "big"] = "big" if magic[:1] == b"." else "little"
        start, size = (int.from_bytes(magic[at : at + 4], order) for at in (4, 8))
        _require_inside(file, where, None if size in _UNKNOWN_SIZES else _Chunk(start, size))
    elif magic[:4] == b"OggS":
        _require_one_ogg_stream(file, where)
    elif magic[:3] == b"ID3" or _Mpeg.at(magic, 0) is not None:
        return _mp3(file, where)
    return None


class _Chunk(NamedTuple):
    """Where samples begin, and how many bytes the header promises, or how many there are."""

    start: int
    size: int


def _length(file: IO[bytes]) -> int:
    return file.seek(0, io.SEEK_END)


def _require_inside(file: IO[bytes], where: str, chunk: _Chunk | None) -> None:
    present = _length(file)
    if chunk is not None and chunk.start + chunk.size > present:
        raise ValueError(
            f"{where}: is cut off: {present} of {chunk.start + chunk.size} bytes; fetch or write the file again"
        )


def _data_chunk(
    file: IO[bytes], position: int, wanted: bytes, order: Literal["little", "big"], *, name: int = 4, size: int = 4
) -> _Chunk | None:
    """Find the chunk of the samples behind others; names and sizes have `name` and `size` bytes."""
    while True:
        file.seek(position)
        header = file.read(name + size)
        if len(header) < name + size:
            return None
        n_bytes = int.from_bytes(header[name:], order)
        if name == 16:  # W64 counts its headers
            n_bytes = max(n_bytes - 24, 0)
        position += len(header)
        if header[:4] == wanted:
            return _Chunk(position, n_bytes)
        step = {16: 8, 4: 2 if size == 4 else 1}[name]
        position += -(-n_bytes // step) * step


def _wav(file: IO[bytes], where: str, order: Literal["little", "big"]) -> BinaryStream | None:
    data = _data_chunk(file, 12, b"data", order)
    if data is None:
        return None
    present = _length(file)
    file.seek(0)
    head = file.read(data.start)
    if head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        if data.size == 2**32 - 1:
            data = _Chunk(data.start, int.from_bytes(head[28:36], "little"))
        _require_inside(file, where, data)
        return None
    if data.size == 0 and data.start < present and int.from_bytes(head[4:8], order) + 8 != present:
        return _Spliced(head[:-4] + b"\xff" * 4, file, data.start)
    if data.size not in _UNKNOWN_SIZES:
        _require_inside(file, where, data)
        if present > 2**32 + 2**16:
            raise ValueError(f"{where}: has more bytes than a WAV header can count; write it as RF64, W64 or FLAC")
    return None


def _require_one_ogg_stream(file: IO[bytes], where: str) -> None:
    """Walk the pages: the last must be marked as the end, and no stream may begin after one."""
    present, position, flags = _length(file), 0, 0
    while position < present:
        file.seek(position)
        header = file.read(27 + 255)
        if header[:4] != b"OggS" or len(header) < 27:
            break
        if header[5] & 2 and flags & 4:
            raise ValueError(
                f"{where}: holds several recordings one after the other, of which only the first would be read; "
                "write it again as one (ffmpeg -i FILE NEW.flac)"
            )
        flags = header[5]
        n_segments = header[26]
        position += 27 + n_segments + sum(header[27 : 27 + n_segments])
    if position > present or not flags & 4:
        raise ValueError(f"{where}: is cut off: its last page is missing; fetch or write the file again")


class _Mpeg(NamedTuple):
    """Header of an MPEG audio frame of layer 3."""

    size: int
    """Bytes of the frame with its header."""
    is_mpeg_1: bool
    n_side: int
    """Bytes between the header and a tag."""
    kind: bytes
    """What all frames of a file have in common: version, layer, and sample rate."""

    @classmethod
    def at(cls, data: bytes, position: int) -> _Mpeg | None:
        """Read the header at a position; None if there is none."""
        header = data[position : position + 4]
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] & 0x18 == 0x08:
            return None
        version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3
        kbit_s = _KBIT_S[version == 3][header[2] >> 4]
        if rate == 3 or kbit_s == 0:
            return None
        sample_rate = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        size = (144 if version == 3 else 72) * kbit_s * 1000 // sample_rate + (header[2] >> 1 & 1)
        mono = header[3] >> 6 == 3
        n_side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
        return cls(size, version == 3, n_side, bytes([header[1] & 0x1E, header[2] & 0x0C]))


_TAGS_BEHIND = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


def _mp3(file: IO[bytes], where: str) -> BinaryStream | None:
    """Put an Info frame that counts the frames before a file that has none, or whose own counts too few."""
    start = _behind_id3(file)
    file.seek(start)
    data = file.read()
    first = _Mpeg.at(data, 0)
    if first is None:
        return None
    n_frames, end = _count_frames(data, first)
    rest = data[end:].strip(b"\0")
    if len(rest) > 2 * first.size and not rest.startswith(_TAGS_BEHIND):
        raise ValueError(
            f"{where}: what follows byte {start + end} is no MP3 frame of the same rate, and would not be read; "
            "write it again (ffmpeg -i FILE NEW.flac)"
        )
    tag = data[4 + first.n_side : first.size]
    if tag[:4] in (b"Xing", b"Info"):
        n_promised = int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
        if n_promised + 2 > n_frames:
            return None
        n_frames, start = n_frames - 1, start + first.size
    header = bytes([data[0], data[1] | 1, _TAG_BITS | data[2] & 0x0D, data[3]])
    frame = _Mpeg.at(header, 0)
    assert frame is not None
    tag = header + bytes(frame.n_side) + b"Info" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return _Spliced(tag.ljust(frame.size, b"\0"), file, start)


def _behind_id3(file: IO[bytes]) -> int:
    """Return the position of the first frame."""
    start = 0
    file.seek(0)
    while (head := file.read(10))[:3] == b"ID3":
        size = sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        start += 10 + size + (10 if head[5] & 16 else 0)
        file.seek(start)
    return start


def _count_frames(data: bytes, first: _Mpeg) -> tuple[int, int]:
    """Walk the frames up to what is none; return how many are whole, and where that ends."""
    position = n_frames = 0
    while (frame := _Mpeg.at(data, position)) is not None and frame.kind == first.kind:
        if position + frame.size > len(data):
            return n_frames, len(data)
        position += frame.size
        n_frames += 1
    return n_frames, position


class _Spliced(io.RawIOBase):
    """Reads as `head` and then as a file from `skip` on."""

    def __init__(self, head: bytes, file: IO[bytes], skip: int) -> None:
        self._head, self._file, self._skip, self._position = head, file, skip, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        length = len(self._head) + _length(self._file) - self._skip
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: length}[whence]
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill the buffer as far as there is something: a short read is the end to libsndfile."""
        content = self._head[self._position : self._position + len(buffer)]
        if len(content) < len(buffer):
            self._file.seek(self._skip + max(self._position - len(self._head), 0))
            content += self._file.read(len(buffer) - len(content))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
