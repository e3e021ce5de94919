//! [`MemorySink`]: entries kept in memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Entry, EntryKind, Prepared, Sink, SinkInfo, padding};
use crate::span::{EntryId, Span};
use crate::sync::lock;

/// Entries kept in memory, up to a size. Padding takes none, and what is not wanted is forgotten when it is finished.
#[derive(Clone, Debug)]
pub struct MemorySink {
    max: u64,
    entries: Arc<Mutex<HashMap<EntryId, Content>>>,
}

enum Content {
    Open(Vec<u8>),
    Final(Bytes),
    /// With its length, if that is known.
    Padding(Option<u64>),
}

impl MemorySink {
    /// A sink for `max` bytes in all entries together.
    pub fn new(max: u64) -> Self {
        Self { max, entries: Arc::default() }
    }

    /// The content of a finished entry.
    pub fn bytes(&self, entry: EntryId) -> Option<Bytes> {
        match self.lock().get(&entry)? {
            Content::Open(_) | Content::Padding(_) => None,
            Content::Final(bytes) => Some(bytes.clone()),
        }
    }

    /// Takes the content of a finished entry out of the sink.
    pub fn take(&self, entry: EntryId) -> Option<Bytes> {
        let bytes = self.bytes(entry)?;
        self.lock().remove(&entry);
        Some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntryId, Content>> {
        lock(&self.entries)
    }

    fn too_large(&self, bytes: u64) -> Error {
        Error::new(ErrorKind::TooLarge, "more than may be kept in memory").with("bytes", bytes).with("limit", self.max)
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn info(&self) -> SinkInfo {
        SinkInfo::random_access()
    }

    async fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        let mut entries = self.lock();
        match (entry.kind, entries.get(&entry.id)) {
            (EntryKind::Padding, Some(content)) if content.len() > 0 => {
                return Err(Error::new(ErrorKind::InvalidInput, "the entry was written in another way already")
                    .with("entry", entry.id));
            }
            (EntryKind::Padding, _) => {
                entries.insert(entry.id, Content::Padding(entry.len));
                return Ok(Prepared::empty());
            }
            (_, Some(Content::Padding(_))) => drop(entries.remove(&entry.id)),
            _ => {}
        }
        let others: u64 = entries.iter().filter(|(id, _)| **id != entry.id).map(|(_, content)| content.len()).sum();
        let wanted = others.saturating_add(entry.len.unwrap_or(0));
        if wanted > self.max {
            return Err(self.too_large(wanted));
        }
        // The length is only a claim as yet: memory is taken when bytes arrive.
        entries.entry(entry.id).or_insert_with(|| Content::Open(Vec::new()));
        Ok(Prepared::empty())
    }

    async fn write(&self, entry: EntryId, offset: u64, data: Vec<Bytes>) -> Result<()> {
        let len = data.iter().map(Bytes::len).sum::<usize>();
        let end = offset.checked_add(len as u64).ok_or_else(|| self.too_large(u64::MAX))?;
        let mut entries = self.lock();
        let total: u64 = entries.values().map(Content::len).sum();
        let buffer = match entries.get_mut(&entry) {
            Some(Content::Open(buffer)) => buffer,
            Some(Content::Padding(len)) => return padding::write(entry, *len, offset, &data),
            Some(Content::Final(_)) | None => return Err(not_open(entry)),
        };
        let grown = end.saturating_sub(buffer.len() as u64);
        if total.saturating_add(grown) > self.max {
            return Err(self.too_large(total.saturating_add(grown)));
        }
        // Both are at most as large as the buffer, which is at most as large as `max`.
        let (Ok(mut at), Ok(end)) = (usize::try_from(offset), usize::try_from(end)) else {
            return Err(self.too_large(end));
        };
        if end > buffer.len() {
            buffer.try_reserve(end - buffer.len()).map_err(|e| self.too_large(end as u64).with_source(e))?;
            buffer.resize(end, 0);
        }
        for chunk in data {
            buffer[at..at + chunk.len()].copy_from_slice(&chunk);
            at += chunk.len();
        }
        Ok(())
    }

    async fn read(&self, span: &Span) -> Result<Bytes> {
        let entries = self.lock();
        let content = entries.get(&span.entry).ok_or_else(|| not_open(span.entry))?;
        if let Content::Padding(len) = content {
            return padding::read(span, *len);
        }
        if span.is_empty() || span.range.end > content.len() {
            return Err(Error::new(ErrorKind::InvalidInput, "a read of bytes that were not written")
                .with("span", format_args!("{span:?}")));
        }
        let range = span.range.start as usize..span.range.end as usize;
        Ok(match content {
            Content::Open(buffer) => Bytes::copy_from_slice(&buffer[range]),
            Content::Final(bytes) => bytes.slice(range),
            Content::Padding(_) => Bytes::new(),
        })
    }

    async fn sync(&self, _entry: EntryId) -> Result<()> {
        Ok(())
    }

    async fn reset(&self, entry: EntryId) -> Result<()> {
        match self.lock().get_mut(&entry) {
            Some(Content::Open(buffer)) => {
                buffer.clear();
                Ok(())
            }
            Some(Content::Padding(_)) => Ok(()),
            _ => Err(not_open(entry)),
        }
    }

    async fn finish(&self, entry: &Entry) -> Result<()> {
        let mut entries = self.lock();
        if matches!(entry.kind, EntryKind::Unwanted { .. }) {
            entries.remove(&entry.id);
            return Ok(());
        }
        let content = entries.get_mut(&entry.id).ok_or_else(|| not_open(entry.id))?;
        let Content::Open(buffer) = content else { return Ok(()) };
        if entry.len.is_some_and(|len| len != buffer.len() as u64) {
            return Err(Error::new(ErrorKind::Corrupt, "not as long as it must be")
                .with("bytes", buffer.len())
                .with("expected", entry.len.unwrap_or_default())
                .with_scope(crate::Scope::Download));
        }
        *content = Content::Final(std::mem::take(buffer).into());
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        self.lock().retain(|_, content| matches!(content, Content::Final(_)));
        Ok(())
    }

    fn location(&self, _entry: EntryId) -> Option<PathBuf> {
        None
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Open(buffer) => buffer.len() as u64,
            Self::Final(bytes) => bytes.len() as u64,
            Self::Padding(_) => 0,
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Open(_) => "Open",
            Self::Final(_) => "Final",
            Self::Padding(_) => "Padding",
        };
        write!(f, "{name}({} bytes)", self.len())
    }
}

fn not_open(entry: EntryId) -> Error {
    Error::new(ErrorKind::InvalidInput, "the entry is not open for writing").with("entry", entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::EntryPath;

    const FIRST: EntryId = EntryId::FIRST;
    const SECOND: EntryId = EntryId::new(1);

    fn entry(id: EntryId, len: u64) -> Entry {
        Entry::new(id, EntryPath::new("f").unwrap()).with_len(len)
    }

    fn data(text: &'static str) -> Vec<Bytes> {
        text.as_bytes().chunks(2).map(Bytes::from_static).collect()
    }

    #[tokio::test]
    async fn bytes_in_any_order_come_out_in_order() {
        let sink = MemorySink::new(100);
        sink.prepare(&entry(FIRST, 11)).await.unwrap();
        sink.write(FIRST, 6, data("world")).await.unwrap();
        sink.write(FIRST, 0, data("hello ")).await.unwrap();
        assert_eq!(sink.read(&Span::new(FIRST, 4..8)).await.unwrap(), "o wo");
        assert_eq!(sink.bytes(FIRST), None);

        sink.finish(&entry(FIRST, 11)).await.unwrap();
        sink.finish(&entry(FIRST, 11)).await.unwrap();
        sink.abort().await.unwrap();
        assert_eq!(sink.read(&Span::new(FIRST, 4..8)).await.unwrap(), "o wo");
        assert!(sink.write(FIRST, 0, data("x")).await.is_err());
        assert_eq!(sink.take(FIRST).unwrap(), "hello world");
        assert_eq!(sink.take(FIRST), None);
    }

    #[tokio::test]
    async fn the_limit_is_for_all_entries_together() {
        let sink = MemorySink::new(10);
        assert_eq!(sink.prepare(&entry(FIRST, 11)).await.unwrap_err().kind(), ErrorKind::TooLarge);
        sink.prepare(&entry(FIRST, 6)).await.unwrap();
        sink.prepare(&entry(SECOND, 6)).await.unwrap();
        sink.write(FIRST, 0, data("123456")).await.unwrap();
        assert_eq!(sink.write(SECOND, 0, data("12345")).await.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(sink.write(SECOND, u64::MAX, data("12")).await.unwrap_err().kind(), ErrorKind::TooLarge);
        sink.write(SECOND, 0, data("1234")).await.unwrap();
        sink.write(SECOND, 0, data("4321")).await.unwrap();
        assert_eq!(sink.finish(&entry(SECOND, 6)).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(sink.read(&Span::new(SECOND, 2..5)).await.is_err());
        assert!(sink.read(&Span::new(SECOND, 0..u64::MAX)).await.is_err());
    }
}
