//! Messages from bytes and to bytes: a length in four bytes, a number in one, a payload.
//!
//! The invariant: a message's length is judged before its payload is waited for, so that no stranger decides how much is
//! buffered.

use std::error::Error;
use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::BLOCK_LEN;
use super::message::{Block, Message, id};

/// The most pieces that a torrent may have here, which is also libtorrent's limit: it bounds a bitfield to 256 KiB while the
/// torrent's own number isn't known yet.
pub const MAX_PIECES: u32 = 1 << 21;

/// The longest payload of an extension. The largest in use is a piece of metadata (BEP 9), 16 KiB and a small dictionary;
/// lists of peers (BEP 11) stay under 4 KiB.
pub const MAX_EXTENDED: u32 = 64 * 1024;

/// The longest unknown message that is skipped. Who sends more is not speaking this protocol.
pub const MAX_UNKNOWN: u32 = 128 * 1024;

/// Takes messages out of a receive buffer.
#[derive(Clone, Debug)]
pub struct Decoder {
    block: u32,
    pieces: Option<u32>,
    skip: u32,
}

impl Decoder {
    /// A decoder for a connection whose torrent is not known yet, or has so many pieces.
    pub fn new(pieces: Option<u32>) -> Self {
        Self { block: BLOCK_LEN, pieces, skip: 0 }
    }

    /// Accepts blocks up to this long in place of [`BLOCK_LEN`]: for who requests longer ones.
    #[must_use]
    pub fn with_block_len(mut self, len: u32) -> Self {
        self.block = len;
        self
    }

    /// The number of pieces has become known.
    pub fn set_pieces(&mut self, pieces: u32) {
        self.pieces = Some(pieces);
    }

    /// The next message, taken off the front of `buf`. A block's bytes are not copied: they are a slice of what `buf`
    /// received. `None` means that more bytes are needed.
    ///
    /// # Errors
    /// When the stream can't be trusted from here on: the connection has to be closed.
    #[inline]
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
        if self.skip > 0 {
            let n = buf.len().min(self.skip as usize);
            buf.advance(n);
            self.skip -= n as u32;
        }
        let Some(head) = buf.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*head);
        if len == 0 {
            buf.advance(4);
            return Ok(Some(Message::KeepAlive));
        }
        let Some(&kind) = buf.get(4) else { return Ok(None) };
        if !self.is_len_allowed(kind, len) {
            return Err(DecodeError { kind, len });
        }
        if !is_known(kind) {
            buf.advance(5);
            self.skip = len - 1;
            let n = buf.len().min(self.skip as usize);
            buf.advance(n);
            self.skip -= n as u32;
            return Ok(Some(Message::Unknown(kind)));
        }
        if buf.len() - 4 < len as usize {
            return Ok(None);
        }
        buf.advance(5);
        Ok(Some(payload(kind, buf.split_to(len as usize - 1))))
    }

    /// How many bytes must still come before the next message is whole, as far as `buf` tells; 0 if one is. A receive
    /// buffer that has this much room never moves what it holds. No more than the longest message that is allowed, whatever
    /// length a message claims.
    pub fn missing(&self, buf: &[u8]) -> usize {
        let Some(rest) = buf.get(self.skip as usize..) else { return self.skip as usize - buf.len() + 4 };
        match rest.first_chunk::<4>() {
            Some(head) => (4 + u32::from_be_bytes(*head).min(self.longest()) as usize).saturating_sub(rest.len()),
            None => 4 - rest.len(),
        }
    }

    /// The longest that any message may be, its number counted.
    fn longest(&self) -> u32 {
        let bitfield = 1 + MAX_PIECES / 8;
        self.block.saturating_add(9).max(bitfield).max(2 + MAX_EXTENDED).max(MAX_UNKNOWN)
    }

    /// Whether a message of this kind may be this long, its number counted.
    fn is_len_allowed(&self, kind: u8, len: u32) -> bool {
        match kind {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => len == 1,
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => len == 5,
            id::REQUEST | id::CANCEL | id::REJECT => len == 13,
            id::PORT => len == 3,
            id::PIECE => len >= 9 && len - 9 <= self.block,
            id::BITFIELD => match self.pieces {
                Some(pieces) => len == 1 + pieces.div_ceil(8),
                None => len <= 1 + MAX_PIECES / 8,
            },
            id::EXTENDED => len >= 2 && len - 2 <= MAX_EXTENDED,
            _ => len <= MAX_UNKNOWN,
        }
    }
}

/// Appends a message.
#[inline]
pub fn encode(message: &Message, out: &mut BytesMut) {
    match message {
        Message::KeepAlive => out.put_u32(0),
        Message::Choke => plain(out, id::CHOKE),
        Message::Unchoke => plain(out, id::UNCHOKE),
        Message::Interested => plain(out, id::INTERESTED),
        Message::NotInterested => plain(out, id::NOT_INTERESTED),
        Message::Have(piece) => number(out, id::HAVE, *piece),
        Message::Bitfield(bits) => {
            head(out, id::BITFIELD, bits.len());
            out.put_slice(bits);
        }
        Message::Request(block) => self::block(out, id::REQUEST, block),
        Message::Piece { piece, begin, data } => {
            out.put_slice(&piece_head(*piece, *begin, data.len() as u32));
            out.put_slice(data);
        }
        Message::Cancel(block) => self::block(out, id::CANCEL, block),
        Message::Port(port) => {
            head(out, id::PORT, 2);
            out.put_u16(*port);
        }
        Message::Suggest(piece) => number(out, id::SUGGEST, *piece),
        Message::HaveAll => plain(out, id::HAVE_ALL),
        Message::HaveNone => plain(out, id::HAVE_NONE),
        Message::Reject(block) => self::block(out, id::REJECT, block),
        Message::AllowedFast(piece) => number(out, id::ALLOWED_FAST, *piece),
        Message::Extended { id, payload } => {
            head(out, id::EXTENDED, 1 + payload.len());
            out.put_u8(*id);
            out.put_slice(payload);
        }
        Message::Unknown(id) => plain(out, *id),
    }
}

/// What stands in front of a block's bytes: for who sends the bytes from where they are, without copying them behind it.
pub fn piece_head(piece: u32, begin: u32, len: u32) -> [u8; 13] {
    let mut bytes = [0; 13];
    bytes[..4].copy_from_slice(&len.saturating_add(9).to_be_bytes());
    bytes[4] = id::PIECE;
    bytes[5..9].copy_from_slice(&piece.to_be_bytes());
    bytes[9..].copy_from_slice(&begin.to_be_bytes());
    bytes
}

/// A message of a length that its kind can't have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DecodeError {
    /// The message's number.
    pub kind: u8,
    /// The length that it claims, its number counted.
    pub len: u32,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of kind {} can't be {} bytes long", self.kind, self.len)
    }
}

impl Error for DecodeError {}

fn is_known(kind: u8) -> bool {
    matches!(kind, id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST | id::EXTENDED)
}

/// The message whose payload this is; its length was checked.
#[inline]
fn payload(kind: u8, mut bytes: BytesMut) -> Message {
    match kind {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(bytes.get_u32()),
        id::BITFIELD => Message::Bitfield(bytes.freeze()),
        id::REQUEST => Message::Request(get_block(&mut bytes)),
        id::PIECE => {
            let (piece, begin) = (bytes.get_u32(), bytes.get_u32());
            Message::Piece { piece, begin, data: bytes.freeze() }
        }
        id::CANCEL => Message::Cancel(get_block(&mut bytes)),
        id::PORT => Message::Port(bytes.get_u16()),
        id::SUGGEST => Message::Suggest(bytes.get_u32()),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(get_block(&mut bytes)),
        id::ALLOWED_FAST => Message::AllowedFast(bytes.get_u32()),
        id::EXTENDED => Message::Extended { id: bytes.get_u8(), payload: bytes.freeze() },
        _ => Message::Unknown(kind),
    }
}

fn get_block(bytes: &mut BytesMut) -> Block {
    Block { piece: bytes.get_u32(), begin: bytes.get_u32(), len: bytes.get_u32() }
}

fn head(out: &mut BytesMut, id: u8, payload: usize) {
    out.put_u32(1 + payload as u32);
    out.put_u8(id);
}

fn plain(out: &mut BytesMut, id: u8) {
    head(out, id, 0);
}

fn number(out: &mut BytesMut, id: u8, number: u32) {
    head(out, id, 4);
    out.put_u32(number);
}

fn block(out: &mut BytesMut, id: u8, block: &Block) {
    let mut bytes = [0; 17];
    bytes[3] = 13;
    bytes[4] = id;
    bytes[5..9].copy_from_slice(&block.piece.to_be_bytes());
    bytes[9..13].copy_from_slice(&block.begin.to_be_bytes());
    bytes[13..].copy_from_slice(&block.len.to_be_bytes());
    out.put_slice(&bytes);
}

#[cfg(test)]
mod tests;
