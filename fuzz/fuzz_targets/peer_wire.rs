//! However a peer's bytes are cut, they are the same messages; and what is written again is read as the same.

#![no_main]

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use dlm_bittorrent::wire::extension::{ExtensionHandshake, MetadataMessage};
use dlm_bittorrent::wire::{DecodeError, Decoder, Handshake, Message, encode};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pieces: Option<u16>,
    cuts: Vec<u8>,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let pieces = input.pieces.map(u32::from);
    let whole = decode(pieces, std::iter::once(input.bytes));
    let mut rest = input.bytes;
    let mut cuts = input.cuts.iter().cycle();
    let cut = std::iter::from_fn(|| {
        let (now, later) = rest.split_at_checked(usize::from(*cuts.next()?).max(1)).unwrap_or((rest, &[]));
        rest = later;
        (!now.is_empty()).then_some(now)
    });
    if !input.cuts.is_empty() {
        assert_eq!(decode(pieces, cut), whole);
    }
    let mut again = BytesMut::new();
    for message in &whole.0 {
        encode(message, &mut again);
        if let Message::Extended { payload, .. } = message {
            extension(payload);
        }
    }
    assert_eq!(decode(pieces, std::iter::once(&again[..])), (whole.0, None));
    if let Ok(Some(handshake)) = Handshake::decode(input.bytes) {
        assert_eq!(handshake.encode(), input.bytes[..Handshake::LEN]);
    }
});

/// The messages, and why there are no more.
fn decode<'a>(pieces: Option<u32>, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<DecodeError>) {
    let (mut decoder, mut buf, mut messages) = (Decoder::new(pieces), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            let missing = decoder.missing(&buf);
            match decoder.decode(&mut buf) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => {
                    assert!(missing > 0);
                    break;
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn extension(payload: &Bytes) {
    if let Ok(handshake) = ExtensionHandshake::decode(payload) {
        assert_eq!(ExtensionHandshake::decode(&handshake.encode()), Ok(handshake));
    }
    if let Ok(Some(message)) = MetadataMessage::decode(payload) {
        assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
    }
}
