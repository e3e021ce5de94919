//! [`Model`]: cache and stable storage. Pure: what takes time is done outside.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Crash, unprepared};
use crate::checkpoint::{Loaded, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::runs::RangeSet;
use crate::sink::{Entry, EntryKind, Prepared, Stamp, padding};
use crate::span::{EntryId, Span};

/// What is lost or kept as a whole, in bytes.
const PAGE: u64 = 4096;

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) random: fastrand::Rng,
    contents: Vec<Bytes>,
    files: HashMap<EntryId, File>,
    /// The entries that are nowhere, with their lengths.
    padding: HashMap<EntryId, Option<u64>>,
    next_inode: u64,
    record: Option<Record>,
    /// In the cache only.
    log: Vec<(EntryId, Range<u64>)>,
    is_same_boot: bool,
    syncs: u64,
    pub(super) operations: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) fail_sync_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) violations: Vec<String>,
}

#[derive(Clone, Default, Debug)]
struct File {
    inode: u64,
    /// What a read sees.
    cache: Vec<u8>,
    stable: Vec<u8>,
    /// What of the cache was not synced.
    dirty: RangeSet,
    /// What a sync is about to take to stable storage.
    syncing: Vec<Syncing>,
    /// Whether its name is on stable storage.
    is_linked: bool,
    is_final: bool,
    /// An earlier run finished it.
    is_old: bool,
}

/// A sync on its way: the length and the bytes as they were when it was called.
#[derive(Clone, Debug)]
struct Syncing {
    len: usize,
    runs: Vec<(u64, Vec<u8>)>,
}

impl File {
    fn put_stable(&mut self, at: u64, bytes: &[u8]) {
        let end = at as usize + bytes.len();
        if self.stable.len() < end {
            self.stable.resize(end, 0);
        }
        self.stable[at as usize..end].copy_from_slice(bytes);
    }

    fn has_stable(&self, range: &Range<u64>, content: &[u8]) -> bool {
        let range = range.start as usize..range.end as usize;
        self.is_linked && self.stable.get(range.clone()).is_some_and(|there| Some(there) == content.get(range))
    }
}

impl Model {
    pub(super) fn new(seed: u64, contents: Vec<Bytes>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            contents,
            files: HashMap::new(),
            padding: HashMap::new(),
            next_inode: 1,
            record: None,
            log: Vec::new(),
            is_same_boot: true,
            syncs: 0,
            operations: 0,
            crash_at: None,
            fail_sync_at: None,
            crashed: false,
            violations: Vec::new(),
        }
    }

    fn open(&mut self, entry: EntryId) -> Result<&mut File> {
        self.files.get_mut(&entry).filter(|file| !file.is_final).ok_or_else(|| unprepared(entry))
    }

    pub(super) fn is_padding(&self, entry: EntryId) -> bool {
        self.padding.contains_key(&entry)
    }

    pub(super) fn prepare(&mut self, entry: &Entry) -> Prepared {
        if entry.kind == EntryKind::Padding {
            self.padding.insert(entry.id, entry.len);
            return Prepared::empty();
        }
        self.padding.remove(&entry.id);
        let inode = self.next_inode;
        let file = self.files.entry(entry.id).or_insert_with(|| {
            self.next_inode += 1;
            File { inode, ..File::default() }
        });
        let len = file.cache.len() as u64;
        let existing = if len > 0 { vec![Span::new(entry.id, 0..len)] } else { Vec::new() };
        let stamp = Stamp { device: 1, inode: file.inode };
        Prepared::empty().with_existing(existing).with_stamp(stamp).with_skip(file.is_old)
    }

    pub(super) fn write(&mut self, entry: EntryId, offset: u64, data: &[u8]) -> Result<()> {
        if let Some(len) = self.padding.get(&entry) {
            return padding::write(entry, *len, offset, &[Bytes::copy_from_slice(data)]);
        }
        let file = self.open(entry)?;
        let end = offset as usize + data.len();
        if file.cache.len() < end {
            file.cache.resize(end, 0);
        }
        file.cache[offset as usize..end].copy_from_slice(data);
        file.dirty.insert(offset..end as u64);
        Ok(())
    }

    pub(super) fn read(&self, span: &Span) -> Result<Bytes> {
        if let Some(len) = self.padding.get(&span.entry) {
            return padding::read(span, *len);
        }
        let file = self.files.get(&span.entry).ok_or_else(|| unprepared(span.entry))?;
        let range = span.range.start as usize..span.range.end as usize;
        let bytes = file.cache.get(range).filter(|bytes| !bytes.is_empty());
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a read past the end"))
    }

    /// Only what was written before the call is promised, so no more than that is taken.
    pub(super) fn sync_begins(&mut self, entry: EntryId) -> Result<()> {
        let file = self.open(entry)?;
        let dirty = std::mem::take(&mut file.dirty);
        let bytes = |range: Range<u64>| (range.start, file.cache[range.start as usize..range.end as usize].to_vec());
        let syncing = Syncing { len: file.cache.len(), runs: dirty.ranges().map(bytes).collect() };
        file.syncing.push(syncing);
        Ok(())
    }

    pub(super) fn sync_ends(&mut self, entry: EntryId) -> Result<()> {
        self.syncs += 1;
        let fails = self.fail_sync_at == Some(self.syncs);
        let file = self.open(entry)?;
        let all = std::mem::take(&mut file.syncing);
        if fails {
            // The pages are clean now, and their bytes nowhere but in the cache.
            return Err(Error::storage("cannot sync the file", std::io::Error::other("simulated")));
        }
        for Syncing { len, runs } in all {
            file.stable.resize(len.max(file.stable.len()), 0);
            file.stable.truncate(file.cache.len().max(len));
            runs.iter().for_each(|(at, bytes)| file.put_stable(*at, bytes));
        }
        file.is_linked = true;
        Ok(())
    }

    pub(super) fn reset(&mut self, entry: EntryId) -> Result<()> {
        if self.is_padding(entry) {
            return Ok(());
        }
        let file = self.open(entry)?;
        // The old bytes stay on stable storage until a sync.
        file.cache.clear();
        file.dirty.clear();
        file.syncing.clear();
        Ok(())
    }

    pub(super) fn finish(&mut self, entry: &Entry) -> Result<()> {
        if let EntryKind::Unwanted { .. } = entry.kind {
            self.files.remove(&entry.id);
            return Ok(());
        }
        let content = self.contents.get(entry.id.index()).cloned().unwrap_or_default();
        let Some(file) = self.files.get_mut(&entry.id) else { return Err(unprepared(entry.id)) };
        file.cache.truncate(entry.len.unwrap_or(0) as usize);
        if file.cache != content {
            self.violations.push(format!("entry {} got its final name with wrong bytes", entry.id));
        } else if !content.is_empty() && !file.has_stable(&(0..content.len() as u64), &content) {
            self.violations.push(format!("entry {} got its final name before its bytes were synced", entry.id));
        }
        file.is_final = true;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        self.files.retain(|_, file| file.is_final);
    }

    pub(super) fn load(&self) -> Loaded {
        Loaded { record: self.record.clone(), written: self.log.clone(), is_same_boot: self.is_same_boot }
    }

    pub(super) fn save(&mut self, record: &Record) -> Result<()> {
        record.encode()?;
        for (i, entry) in record.entries.iter().enumerate() {
            let id = EntryId::new(i as u32);
            for range in &entry.durable {
                let is_there = |file: &File| file.has_stable(range, self.contents.get(i).map_or(&[], |c| c));
                if !self.is_padding(id) && !self.files.get(&id).is_some_and(is_there) {
                    self.violations.push(format!("entry {id}: {range:?} is called durable and is not"));
                }
            }
        }
        self.record = Some(record.clone());
        self.log.clear();
        Ok(())
    }

    pub(super) fn append(&mut self, written: &[(EntryId, Range<u64>)]) -> Result<()> {
        if self.record.is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "no record was saved that the log could extend"));
        }
        self.log.extend_from_slice(written);
        Ok(())
    }

    pub(super) fn remove(&mut self) {
        self.record = None;
        self.log.clear();
    }

    pub(super) fn recorded(&self) -> u64 {
        let entries = self.record.iter().flat_map(|record| &record.entries);
        entries.flat_map(|entry| &entry.durable).map(|range| range.end - range.start).sum()
    }

    pub(super) fn finished(&self, entry: EntryId) -> Option<Bytes> {
        self.files.get(&entry).filter(|file| file.is_final).map(|file| Bytes::copy_from_slice(&file.cache))
    }

    pub(super) fn restarted(&self, crash: Crash) -> Self {
        let mut next = self.clone();
        (next.operations, next.syncs) = (0, 0);
        (next.crash_at, next.fail_sync_at, next.crashed) = (None, None, false);
        next.files.values_mut().for_each(|file| file.is_old = file.is_final);
        match crash {
            Crash::Kill => {
                for file in next.files.values_mut() {
                    // The kernel carries a sync on to its end, or writes these pages later.
                    for Syncing { runs, .. } in std::mem::take(&mut file.syncing) {
                        let there = |at: u64, bytes: &[u8]| at + bytes.len() as u64 <= file.cache.len() as u64;
                        let runs = runs.into_iter().filter(|(at, bytes)| there(*at, bytes));
                        runs.for_each(|(at, bytes)| file.dirty.insert(at..at + bytes.len() as u64));
                    }
                }
            }
            Crash::Power => {
                next.log.clear();
                next.is_same_boot = false;
                next.files.retain(|_, file| file.is_linked || next.random.bool());
                next.files.values_mut().for_each(|file| file.lose_power(&mut next.random));
            }
        }
        next
    }
}

impl File {
    /// Each page that was not synced is there or not.
    fn lose_power(&mut self, random: &mut fastrand::Rng) {
        for Syncing { runs, .. } in std::mem::take(&mut self.syncing) {
            for (at, bytes) in runs {
                self.keep_some(at, &bytes, random);
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        for range in dirty.ranges() {
            let bytes = self.cache[range.start as usize..range.end as usize].to_vec();
            self.keep_some(range.start, &bytes, random);
        }
        self.cache = self.stable.clone();
        self.is_linked = true;
    }

    fn keep_some(&mut self, at: u64, bytes: &[u8], random: &mut fastrand::Rng) {
        let mut from = 0;
        while from < bytes.len() {
            let to = (PAGE - (at + from as u64) % PAGE) as usize + from;
            let to = to.min(bytes.len());
            if random.bool() {
                self.put_stable(at + from as u64, &bytes[from..to]);
            }
            from = to;
        }
    }
}
