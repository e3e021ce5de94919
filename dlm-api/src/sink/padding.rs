//! What sinks do with [`EntryKind::Padding`](super::EntryKind::Padding): nothing, but they don't take anything else for it.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::span::{EntryId, OPEN_END, Span};

/// The most bytes that one read gives.
const MAX_READ: u64 = 16 << 20;

/// A write to padding: it must be zeros, within its length if that is known.
pub(crate) fn write(entry: EntryId, len: Option<u64>, offset: u64, data: &[Bytes]) -> Result<()> {
    let bytes: u64 = data.iter().map(|chunk| chunk.len() as u64).sum();
    let is_within = offset.checked_add(bytes).is_some_and(|end| end <= len.unwrap_or(OPEN_END));
    if is_within && data.iter().all(|chunk| chunk.iter().all(|byte| *byte == 0)) {
        return Ok(());
    }
    let what = if is_within { "padding that is not zeros" } else { "a write past the end of padding" };
    Err(Error::new(ErrorKind::InvalidInput, what).with("entry", entry).with("offset", offset))
}

/// A read of padding.
pub(crate) fn read(span: &Span, len: Option<u64>) -> Result<Bytes> {
    if span.is_empty() || span.len() > MAX_READ || span.range.end > len.unwrap_or(OPEN_END) {
        return Err(Error::new(ErrorKind::InvalidInput, "a read of nothing, of too much, or past the end of padding")
            .with("span", format_args!("{span:?}"))
            .with("limit", MAX_READ));
    }
    Ok(vec![0; span.len() as usize].into())
}
