//! `lt_donthave` (BEP 54): the only extension whose messages are no dictionaries.

use bytes::Bytes;

use super::ExtensionError;

/// The piece that the sender has no longer.
///
/// # Errors
/// If the message is not exactly one number.
pub fn decode_dont_have(payload: &[u8]) -> Result<u32, ExtensionError> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| ExtensionError::Content)
}

/// The message that says that we have a piece no longer.
pub fn encode_dont_have(piece: u32) -> Bytes {
    Bytes::copy_from_slice(&piece.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_number() {
        assert_eq!(decode_dont_have(&encode_dont_have(258)), Ok(258));
        assert_eq!(encode_dont_have(258)[..], [0, 0, 1, 2]);
        assert!(decode_dont_have(b"abc").is_err() && decode_dont_have(b"abcde").is_err());
    }
}
