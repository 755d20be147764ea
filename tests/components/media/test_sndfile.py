"""What FFmpeg refuses and libsndfile plays is decoded by libsndfile, as if nothing had been."""

import struct

import numpy as np
import pytest

from components.media import sndfile
from components.media.audio import sample_segments
from components.media.errors import DecodeFailed, MediaError, NotMedia
from components.media.extract import extract, segments
from components.media.isolation import Decoder
from components.media.sndfile import sndfile_segments


def crc(page):
    """The check sum of an Ogg page, whose own field is 0."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        register &= 0xFFFFFFFF
    return register


class Bits:
    """The bits of a Vorbis packet, lowest first, and a place in them."""

    def __init__(self, data):
        self.bits = "".join(f"{byte:08b}"[::-1] for byte in data)
        self.place = 0

    def read(self, count):
        self.place += count
        return int(self.bits[self.place - count : self.place][::-1], 2)


def written(*fields):
    """(value, number of bits) each, lowest bit first."""
    return "".join(f"{value:0{count}b}"[::-1] for value, count in fields)


def end_of_last_codebook(bits):
    """The place behind it in a set-up header, by the standard's paragraph 3.2.1."""
    bits.place = bits.bits.rindex(written((0x564342, 24))) + 24
    dimensions, entries, is_ordered = bits.read(16), bits.read(24), bits.read(1)
    if is_ordered:
        bits.read(5)
        while entries > 0:
            entries -= bits.read(entries.bit_length())
    else:
        is_sparse = bits.read(1)
        for _ in range(entries):
            if not is_sparse or bits.read(1):
                bits.read(5)
    lookup = bits.read(4)
    assert lookup == 0 or (lookup, dimensions) == (1, dimensions)
    if lookup:
        bits.read(64)
        value_bits, _ = bits.read(4) + 1, bits.read(1)
        bits.read(value_bits * int(entries ** (1 / dimensions) + 1e-9))
    return bits.place


def with_a_wide_codebook(data):
    """The Ogg Vorbis file with one more codebook, of 17 dimensions, that nothing uses: FFmpeg takes up to 16,
    libvorbis any."""
    second = data.index(b"OggS", 4)
    third = data.index(b"OggS", second + 4)
    page = bytearray(data[second:third])
    packet = page.index(b"\x05vorbis")
    page[packet + 7] += 1  # the number of codebooks, less one
    bits = Bits(page[packet:])
    end = end_of_last_codebook(bits)
    codebook = written((0x564342, 24), (17, 16), (2, 24), (0, 1), (0, 1), (0, 5), (0, 5), (0, 4))
    longer = bits.bits[:end] + codebook + bits.bits[end:]
    assert len(codebook) == 80
    page[packet:] = bytes(int(longer[start : start + 8][::-1], 2) for start in range(0, len(longer), 8))
    last_lacing = 27 + page[26] - 1
    assert page[last_lacing] < 245
    page[last_lacing] += 10
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", crc(page))
    return data[:second] + bytes(page) + data[third:]


@pytest.mark.parametrize("duration_s", [3.0, 30.0])
def test_a_vorbis_header_that_ffmpeg_refuses(clips, duration_s):
    """The same sound as that of the file with the ordinary header; in this process, and in the confined one."""
    ordinary = clips.audio(clips.tone(duration_s), container="ogg", codec="libvorbis")
    data = with_a_wide_codebook(ordinary)
    with pytest.raises(MediaError):
        sample_segments(data)
    found, expected = segments(data), sample_segments(ordinary)
    assert found.duration_s == pytest.approx(expected.duration_s, abs=0.01)
    np.testing.assert_array_equal(found.num_samples, expected.num_samples)
    one_sample = 0.5 * 2 * np.pi * 440 / 16_000  # a tone moves so much from one sample to the next
    assert np.abs(found.waveforms - expected.waveforms).max() < one_sample
    arrays = extract(data)
    with Decoder() as decoder:
        np.testing.assert_array_equal(decoder.extract(data).audio_log_mel, arrays.audio_log_mel)
        np.testing.assert_array_equal(decoder.segments(data).waveforms, found.waveforms)


def test_a_sound_of_very_many_channels(clips):
    """255 channels: FFmpeg mixes at most 64."""
    samples = np.repeat((clips.tone(1.0) * 32767).astype("<i2")[:, None], 255, axis=1).tobytes()
    fmt = struct.pack("<HHIIHH", 1, 255, 44_100, 44_100 * 510, 510, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(samples)) + samples
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(DecodeFailed, match="255 channels"):
        sample_segments(data)
    assert segments(data).waveforms[0, 1000:15_000].max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"<html>" * 100, b"PK\x03\x04" + bytes(500), b"RIFF" + bytes(100)])
def test_what_neither_plays_keeps_ffmpegs_reason(data):
    assert sndfile_segments(data) is None


def test_tables_that_libsndfile_takes_for_sound_are_none():
    """It reads MATLAB's matrices and headerless samples."""
    assert not {"MAT4", "MAT5", "RAW", "SD2"} & sndfile.FORMATS
    with pytest.raises(NotMedia):
        extract(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM" + bytes(200))
