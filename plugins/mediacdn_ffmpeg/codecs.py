"""Names of codecs as RFC 6381 has them, from what a decoder is set up with. Pure."""


def name(codec: str, extradata: bytes) -> str:
    """Tell `avc1.64001f` of H.264 by its avcC box or its parameter sets, `mp4a.40.2` of AAC by its AudioSpecificConfig."""
    if codec == "h264":
        return f"avc1.{_profile(extradata).hex()}"
    if codec == "aac":
        kind = extradata[0] >> 3 if extradata else 2
        return f"mp4a.40.{kind or 2}"
    return codec


def _profile(extradata: bytes) -> bytes:
    """The three bytes of profile, constraints and level (ISO/IEC 14496-15 section 5.3.3.1, 14496-10 section 7.3.2.1). Raises: ValueError."""
    if extradata[:1] == b"\x01" and len(extradata) >= 4:
        return extradata[1:4]
    at = extradata.find(b"\0\0\1")
    while at >= 0:
        if extradata[at + 3 : at + 4] and extradata[at + 3] & 0x1F == 7 and len(extradata) >= at + 7:
            return extradata[at + 4 : at + 7]
        at = extradata.find(b"\0\0\1", at + 3)
    raise ValueError("there is no parameter set")
