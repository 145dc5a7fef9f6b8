"""The encoder of fields against `hpack`'s own: the same bytes, and whatever it makes is read back as it was."""

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from agenttask.runner.http2.encoding import FieldEncoder

PLAIN = st.tuples(st.sampled_from([b"x-a", b"x-b", b":method", b"accept"]), st.sampled_from([b"GET", b"1", b"2", b"3" * 40, b"4" * 300]))
SECRET = st.sampled_from([NeverIndexedHeaderTuple(name, value) for name in (b"authorization", b"x-api-key") for value in (b"", b"s3cret")])
BLOCKS = st.lists(st.tuples(st.sampled_from([None, None, None, 0, 100, 200, 4096]), st.lists(PLAIN | SECRET, max_size=6)), max_size=30)


@given(BLOCKS)
def test_what_it_makes_is_what_hpack_makes_whatever_the_peer_allows(blocks: list[tuple[int | None, list[tuple[bytes, bytes]]]]) -> None:
    ours, theirs, peer = FieldEncoder(), Encoder(), Decoder()
    for size, fields in blocks:
        if size is not None:
            ours.header_table_size = theirs.header_table_size = size
        block = ours.encode(fields)
        assert block == theirs.encode(fields)
        assert [tuple(field) for field in peer.decode(block, raw=True)] == [tuple(field) for field in fields]


def test_what_is_repeated_is_a_byte_a_field_and_a_secret_stays_a_literal() -> None:
    encoder = FieldEncoder()
    fields = [(b":method", b"POST"), (b"x-a", b"1"), (b"x-b", b"2"), NeverIndexedHeaderTuple(b"authorization", b"s3cret")]
    first, second, third = (encoder.encode(fields) for _ in range(3))
    secret = second[3:]
    assert second == third == bytes([0x83, 0xBF, 0xBE]) + secret
    assert secret[0] & 0xF0 == 0x10
    assert len(second) < len(first)


def test_a_thousand_different_values_leave_no_more_than_the_table_and_a_bounded_memory() -> None:
    encoder, theirs = FieldEncoder(), Encoder()
    for number in range(1000):
        fields = [(b"x-request", b"%d" % number), (b"x-a", b"1"), NeverIndexedHeaderTuple(b"x-api-key", b"%d" % number)]
        assert encoder.encode(fields) == theirs.encode(fields)
    assert len(encoder._places) <= 256
    assert len(encoder._secrets) <= 8
