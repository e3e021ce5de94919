//! What peers say to each other (BEP 3, 6 and 10), parsed and written. No I/O, no clock, no state of a torrent.
//!
//! Everything here takes what a stranger sent, so nothing here may panic or hold on to more than it was given.

pub mod codec;
pub mod extension;
pub mod handshake;
pub mod message;

pub use codec::{DecodeError, Decoder, encode};
pub use handshake::{Handshake, HandshakeError, PeerId, Reserved};
pub use message::{Block, Message};

/// The length of a block, the unit in which pieces are requested (BEP 3): every implementation asks for this much, and
/// most hang up on who asks for more than they do themselves.
pub const BLOCK_LEN: u32 = 16 * 1024;
