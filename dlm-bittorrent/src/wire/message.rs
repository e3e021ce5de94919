//! The messages that follow the handshake (BEP 3, 5, 6 and 10).

use bytes::Bytes;

/// Some bytes of one piece: what is requested, cancelled or rejected.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Block {
    /// The piece's index.
    pub piece: u32,
    /// The first byte, counted from the piece's beginning.
    pub begin: u32,
    /// How many bytes.
    pub len: u32,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Message {
    /// Nothing to say; the connection is to stay open.
    KeepAlive,
    /// No requests are answered from now on.
    Choke,
    /// Requests are answered.
    Unchoke,
    /// The sender would send requests if it were unchoked.
    Interested,
    /// It would not.
    NotInterested,
    /// The sender has one more piece.
    Have(u32),
    /// Which pieces the sender has: a bit each, the first piece in the highest bit of the first byte.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(Block),
    /// A block.
    Piece {
        /// The piece's index.
        piece: u32,
        /// Where in the piece the block begins.
        begin: u32,
        /// Its bytes, a slice of the receive buffer.
        data: Bytes,
    },
    /// Takes a request back.
    Cancel(Block),
    /// The port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The sender would like to be asked for this piece (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// A request will not be answered (BEP 6).
    Reject(Block),
    /// This piece may be requested even while choked (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10); 0 is the extensions' own handshake.
    Extended {
        /// The number that the receiver gave to the extension.
        id: u8,
        /// What the extension defines.
        payload: Bytes,
    },
    /// A message with a number that nobody defined. Its payload is not kept.
    Unknown(u8),
}

/// The numbers of the messages.
pub(super) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
}
