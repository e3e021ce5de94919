//! The log of what was written since the last record.
//!
//! A header binds it to one boot of the machine and one record; entries of fixed size follow, each with a digest over its
//! place and content. What follows the first one that isn't right doesn't count, so that a torn write costs its own spans
//! only.

use std::ops::Range;

use super::fits;
use super::record::{Generation, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::span::EntryId;

/// What a log starts with; the digit is the version of its form.
const MAGIC: &[u8; 8] = b"dlm-log1";
/// Magic, boot, generation, digest.
pub(super) const HEADER: usize = 8 + 16 + 32 + SUM;
/// Entry, start, end, digest.
const ITEM: usize = 4 + 8 + 8 + SUM;
/// The bytes of a digest that are kept: enough against accidents, which is all that it is against.
const SUM: usize = 12;

/// The largest log, in bytes: half a million spans, where a few thousand come between two records.
pub(super) const MAX_LOG: usize = 16 << 20;

/// The most spans of a log.
pub(super) const MAX_SPANS: usize = (MAX_LOG - HEADER) / ITEM;

/// Where Linux says which boot this is: another one each time the machine starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a log belongs to.
#[doc(hidden)]
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The boot of the machine.
    pub boot: [u8; 16],
    /// The record that it extends. As that has the stamps of the files, the log is bound to these, too.
    pub generation: Generation,
}

impl Binding {
    /// The header of a log.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &self.boot, &self.generation.0].concat();
        let sum = blake3::hash(&bytes);
        bytes.extend(&sum.as_bytes()[..SUM]);
        bytes
    }

    /// The bytes of spans, of which the first has the number `number` in the log.
    pub(super) fn encode(&self, number: u64, spans: &[(EntryId, Range<u64>)]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(spans.len() * ITEM);
        for (number, (entry, range)) in (number..).zip(spans) {
            let entry = u32::try_from(entry.index())
                .map_err(|e| Error::new(ErrorKind::InvalidInput, "no such entry").with_source(e))?;
            let start = bytes.len();
            bytes.extend(entry.to_le_bytes());
            bytes.extend(range.start.to_le_bytes());
            bytes.extend(range.end.to_le_bytes());
            let sum = self.sum(number, &bytes[start..]);
            bytes.extend(sum);
        }
        Ok(bytes)
    }

    /// The digest of a span at its place in this log: that of another place, or of another log whose bytes the file
    /// system brings back, is another one.
    fn sum(&self, number: u64, payload: &[u8]) -> [u8; SUM] {
        let mut hasher = blake3::Hasher::new_keyed(&self.generation.0);
        hasher.update(&self.boot).update(&number.to_le_bytes()).update(payload);
        let mut sum = [0; SUM];
        hasher.finalize_xof().fill(&mut sum);
        sum
    }
}

/// The number of spans that a log of `bytes` bytes has.
pub(super) fn count(bytes: u64) -> u64 {
    bytes.saturating_sub(HEADER as u64) / ITEM as u64
}

/// The spans of a log, up to the first that isn't right; none if the log belongs to something else.
#[doc(hidden)]
pub fn decode_log(bytes: &[u8], binding: &Binding, record: &Record) -> Vec<(EntryId, Range<u64>)> {
    let bytes = &bytes[..bytes.len().min(MAX_LOG)];
    let Some(items) = bytes.strip_prefix(binding.header().as_slice()) else { return Vec::new() };
    (0..)
        .zip(items.chunks_exact(ITEM))
        .map_while(|(number, item)| {
            let (payload, sum) = item.split_at(ITEM - SUM);
            let entry = EntryId::new(u32::from_le_bytes(*payload.first_chunk()?));
            let start = u64::from_le_bytes(*payload.get(4..)?.first_chunk()?);
            let end = u64::from_le_bytes(*payload.get(12..)?.first_chunk()?);
            let is_right = binding.sum(number, payload) == sum && has(record, entry, &(start..end));
            is_right.then_some((entry, start..end))
        })
        .collect()
}

/// Fails if one of the spans can't be of the record's entries, which have these lengths.
pub(super) fn check(lens: &[Option<u64>], spans: &[(EntryId, Range<u64>)]) -> Result<()> {
    match spans.iter().find(|(entry, range)| !lens.get(entry.index()).is_some_and(|len| fits(range, *len))) {
        None => Ok(()),
        Some((entry, range)) => {
            Err(Error::new(ErrorKind::InvalidInput, "a span that is not of an entry of the saved record")
                .with("entry", entry)
                .with("range", format_args!("{range:?}")))
        }
    }
}

fn has(record: &Record, entry: EntryId, range: &Range<u64>) -> bool {
    record.entries.get(entry.index()).is_some_and(|entry| fits(range, entry.len))
}

/// Which boot of the machine this is; `None` where that can't be told, and then no log is kept.
pub(super) fn boot() -> Option<[u8; 16]> {
    parse_boot(&std::fs::read_to_string(BOOT_ID).ok()?)
}

fn parse_boot(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().split('-').collect();
    (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_a_uuid() {
        let id = parse_boot("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(id[..3], [0, 0x11, 0x22]);
        for bad in ["", "0", "zz112233-4455-6677-8899-aabbccddeeff", "+0112233-4455-6677-8899-aabbccddeef"] {
            assert_eq!(parse_boot(bad), None, "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_boot_of_this_machine_is_known() {
        assert!(boot().is_some() && boot() == boot());
    }
}
