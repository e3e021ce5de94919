use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
    let mut buf = BytesMut::from(bytes);
    let mut all = Vec::new();
    while let Some(message) = decoder.decode(&mut buf)? {
        all.push(message);
    }
    Ok(all)
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.to_vec()
}

#[test]
fn every_message_has_the_bytes_of_its_bep() {
    let block = Block { piece: 1, begin: 0x4000, len: 0x4000 };
    for (message, bytes) in [
        (Message::KeepAlive, &b"\0\0\0\0"[..]),
        (Message::Choke, b"\0\0\0\x01\0"),
        (Message::Unchoke, b"\0\0\0\x01\x01"),
        (Message::Interested, b"\0\0\0\x01\x02"),
        (Message::NotInterested, b"\0\0\0\x01\x03"),
        (Message::Have(7), b"\0\0\0\x05\x04\0\0\0\x07"),
        (Message::Bitfield(Bytes::from_static(b"\xf0")), b"\0\0\0\x02\x05\xf0"),
        (Message::Request(block), b"\0\0\0\x0d\x06\0\0\0\x01\0\0\x40\0\0\0\x40\0"),
        (
            Message::Piece { piece: 2, begin: 3, data: Bytes::from_static(b"xy") },
            b"\0\0\0\x0b\x07\0\0\0\x02\0\0\0\x03xy",
        ),
        (Message::Cancel(block), b"\0\0\0\x0d\x08\0\0\0\x01\0\0\x40\0\0\0\x40\0"),
        (Message::Port(6881), b"\0\0\0\x03\x09\x1a\xe1"),
        (Message::Suggest(9), b"\0\0\0\x05\x0d\0\0\0\x09"),
        (Message::HaveAll, b"\0\0\0\x01\x0e"),
        (Message::HaveNone, b"\0\0\0\x01\x0f"),
        (Message::Reject(block), b"\0\0\0\x0d\x10\0\0\0\x01\0\0\x40\0\0\0\x40\0"),
        (Message::AllowedFast(9), b"\0\0\0\x05\x11\0\0\0\x09"),
        (Message::Extended { id: 3, payload: Bytes::from_static(b"de") }, b"\0\0\0\x04\x14\x03de"),
        (Message::Unknown(200), b"\0\0\0\x01\xc8"),
    ] {
        assert_eq!(encoded(&message), bytes, "{message:?}");
        assert_eq!(decode_all(&mut Decoder::new(Some(4)), bytes), Ok(vec![message]));
    }
}

/// The number comes behind the length, so that this can't be judged yet; but no memory is kept ready for it.
#[test]
fn a_length_without_a_number_decides_nothing() {
    let mut buf = BytesMut::from(&b"\xff\xff\xff\xff"[..]);
    for pieces in [None, Some(8)] {
        let mut decoder = Decoder::new(pieces);
        assert_eq!(decoder.decode(&mut buf), Ok(None));
        assert_eq!(decoder.missing(&buf), 1 + MAX_PIECES as usize / 8);
    }
}

#[test]
fn a_length_is_judged_before_its_payload_comes() {
    for (kind, len) in [
        (id::CHOKE, 2),
        (id::HAVE, 4),
        (id::HAVE, 6),
        (id::REQUEST, 12),
        (id::PIECE, 8),
        (id::PIECE, 9 + BLOCK_LEN + 1),
        (id::BITFIELD, 3),
        (id::BITFIELD, 5),
        (id::EXTENDED, 1),
        (id::EXTENDED, 3 + MAX_EXTENDED),
        (id::PORT, 2),
        (99, MAX_UNKNOWN + 1),
        (id::PIECE, u32::MAX),
    ] {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.push(kind);
        assert_eq!(decode_all(&mut Decoder::new(Some(24)), &bytes), Err(DecodeError { kind, len }));
    }
    let unknown_count = (1 + MAX_PIECES / 8).to_be_bytes();
    let mut bytes = unknown_count.to_vec();
    bytes.push(id::BITFIELD);
    assert_eq!(decode_all(&mut Decoder::new(None), &bytes), Ok(vec![]));
    bytes[3] += 1;
    assert!(decode_all(&mut Decoder::new(None), &bytes).is_err());
}

#[test]
fn what_is_unknown_is_skipped_without_being_kept() {
    let mut decoder = Decoder::new(None);
    let mut buf = BytesMut::from(&b"\0\0\x10\0\x63"[..]);
    assert_eq!(decoder.decode(&mut buf), Ok(Some(Message::Unknown(99))));
    for _ in 0..0xfff {
        assert_eq!(decoder.decode(&mut buf), Ok(None));
        buf.put_u8(0);
    }
    assert_eq!(decoder.missing(&buf), 4, "one byte is skipped, the next message's length is not known");
    buf.put_slice(b"\0\0\0\x01\x01");
    assert_eq!(decoder.missing(&buf), 0);
    assert_eq!(decoder.decode(&mut buf), Ok(Some(Message::Unchoke)));
    assert!(buf.is_empty());
}

#[test]
fn a_block_is_a_slice_of_the_receive_buffer() {
    let mut buf = BytesMut::with_capacity(256 * 1024);
    for begin in 0..8 {
        let data = Bytes::from(vec![begin as u8; BLOCK_LEN as usize]);
        encode(&Message::Piece { piece: 0, begin: begin * BLOCK_LEN, data }, &mut buf);
    }
    let start = buf.as_ptr() as usize;
    let mut decoder = Decoder::new(None);
    for nth in 0..8 {
        let Ok(Some(Message::Piece { data, .. })) = decoder.decode(&mut buf) else { panic!("no block") };
        assert_eq!(data.as_ptr() as usize - start, nth * (BLOCK_LEN as usize + 13) + 13);
    }
}

#[test]
fn what_is_missing_is_told() {
    let decoder = Decoder::new(None);
    assert_eq!(decoder.missing(b""), 4);
    assert_eq!(decoder.missing(b"\0\0\0\x05\x04"), 4);
    assert_eq!(decoder.missing(b"\0\0\0\x01\x01\0\0"), 0);
}

fn block_of_any() -> impl Strategy<Value = Block> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, len)| Block { piece, begin, len })
}

fn message() -> impl Strategy<Value = Message> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::HaveAll),
        any::<u32>().prop_map(Message::Have),
        bytes(50).prop_map(Message::Bitfield),
        block_of_any().prop_map(Message::Request),
        (any::<u32>(), any::<u32>(), bytes(300)).prop_map(|(piece, begin, data)| Message::Piece { piece, begin, data }),
        block_of_any().prop_map(Message::Cancel),
        block_of_any().prop_map(Message::Reject),
        any::<u16>().prop_map(Message::Port),
        any::<u32>().prop_map(Message::AllowedFast),
        (any::<u8>(), bytes(100)).prop_map(|(id, payload)| Message::Extended { id, payload }),
        (21..=255u8).prop_map(Message::Unknown),
    ]
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_messages_are_the_same(
        messages in prop::collection::vec(message(), 0..20),
        cuts in prop::collection::vec(1..40usize, 1..200),
    ) {
        let mut whole = BytesMut::new();
        messages.iter().for_each(|message| encode(message, &mut whole));
        let (mut decoder, mut buf, mut got) = (Decoder::new(None), BytesMut::new(), Vec::new());
        let mut rest = &whole[..];
        for cut in cuts.iter().cycle() {
            while let Some(message) = decoder.decode(&mut buf).unwrap() {
                got.push(message);
            }
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            buf.put_slice(now);
            rest = later;
        }
        prop_assert_eq!(got, messages);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_all(&mut Decoder::new(Some(100)), &bytes);
    }
}
