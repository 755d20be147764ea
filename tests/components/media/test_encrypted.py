"""Encrypted media are rejects: what a decoder makes of them is noise."""

import struct

import pytest

from components.media.errors import Encrypted
from components.media.extract import extract

COMMON_ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.mark.parametrize("codec", ["aac", "libopus", "flac"])
@pytest.mark.parametrize("duration_s", [2.0, 30.0])
def test_encrypted_sound(clips, codec, duration_s):
    """Opus and PCM would give noise as features."""
    tone = clips.tone(duration_s, rate=48_000)
    data = clips.audio(tone, rate=48_000, container="mp4", codec=codec, options=COMMON_ENCRYPTION)
    with pytest.raises(Encrypted, match="common encryption"):
        extract(data)


def test_encrypted_video(clips):
    with pytest.raises(Encrypted):
        extract(clips.video(clips.moving(50), options=COMMON_ENCRYPTION))


def test_sound_in_the_clear_beside_encrypted_pictures(clips):
    """One track is enough: half of a protected work is no work."""
    data = clips.video(clips.moving(50), sound=clips.tone(), options=COMMON_ENCRYPTION)
    with pytest.raises(Encrypted):
        extract(data)


@pytest.mark.parametrize("tag", [b"drms", b"enca"])
def test_mp4_whose_sample_entry_says_so(clips, tag):
    """As music shops sold it."""
    data = clips.audio(clips.tone(), container="ipod", codec="aac")
    assert data.count(b"mp4a") >= 1
    with pytest.raises(Encrypted, match=tag.decode()):
        extract(data.replace(b"mp4a", tag))


def with_encryption(data):
    """The Matroska file with ContentEncodings (of type encryption) in its only track, in the place of the codec's
    private data."""
    encoding = element(b"\x50\x33", b"\x01") + element(b"\x50\x35", element(b"\x47\xe1", b"\x05"))
    encodings = element(b"\x6d\x80", element(b"\x62\x40", encoding))
    place = data.index(b"\x63\xa2")  # CodecPrivate
    size = data[place + 2] & 0x7F
    room = 3 + size
    assert data[place + 2] & 0x80
    assert room >= len(encodings) + 2
    void = b"\xec" + bytes([0x80 | (room - len(encodings) - 2)]) + bytes(room - len(encodings) - 2)
    return data[:place] + encodings + void + data[place + room :]


def element(name, content):
    return name + bytes([0x80 | len(content)]) + content


def test_an_encrypted_track_of_matroska(clips):
    data = clips.audio(clips.tone(), container="matroska", codec="flac")
    assert extract(data).has_audio
    with pytest.raises(Encrypted, match="Matroska"):
        extract(with_encryption(data))


def test_scrambled_packets_of_a_transport_stream(clips):
    data = bytearray(clips.audio(clips.tone(), container="mpegts", codec="mp2"))
    for start in range(0, len(data), 188):
        identifier = struct.unpack(">H", data[start + 1 : start + 3])[0] & 0x1FFF
        if identifier >= 0x100:
            data[start + 3] |= 0x80
    with pytest.raises(Encrypted, match="transport stream"):
        extract(bytes(data))


def test_windows_media_with_rights_management(clips):
    """The object of the header that names the key."""
    data = clips.audio(clips.tone(), container="asf", codec="wmav2")
    codec_list = bytes.fromhex("4052d1861d31d011a3a400a0c90348f6")
    assert codec_list in data
    with pytest.raises(Encrypted, match="Windows Media"):
        extract(data.replace(codec_list, bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")))
