//! [`Pool`]: so many files are open at a time, and no more.
//!
//! What it keeps: a file that was written to is closed only after a sync of it, and a sync that failed is remembered for as
//! long as the [`Handle`] lives. Closing it without one could lose a failure in silence: the kernel reports a failed write-back
//! to whoever has the file open then; to one who opens it later only if nobody else was told, and if the inode was not dropped
//! from memory in between. So what is clean is closed first, and of what is dirty that which was not used for longest.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError, Weak};

use crate::sync::lock;

/// Bounds how many [`Handle`]s hold a file open.
pub(crate) struct Pool {
    limit: usize,
    /// How often room was asked for: the time by which uses are compared. Those in between are the same age, so that a use of
    /// an open file writes nothing that cores share.
    time: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    handles: Vec<Weak<Handle>>,
    /// Rooms that were given and hold nothing yet.
    promised: usize,
}

/// The right to one open file.
pub(crate) struct Room(Arc<Pool>);

/// A file that is closed and opened again as need be, and what has to outlive its descriptor.
pub(crate) struct Handle {
    /// `None` if it is never closed.
    pool: Option<Arc<Pool>>,
    file: RwLock<Option<Arc<File>>>,
    /// When it was used last.
    used: AtomicU64,
    dirty: AtomicBool,
    /// How long it was when it was closed last.
    len: AtomicU64,
    synced: Mutex<Synced>,
}

#[derive(Default)]
struct Synced {
    /// Why a sync failed: what it covered may be lost, and a later sync that works would not say so.
    failed: Option<io::ErrorKind>,
    /// An earlier run may have left it dirty. That is nothing to be synced before it is closed, as nothing was promised.
    unsure: bool,
}

impl Pool {
    /// A pool of `limit` files. Those that are in use at the same moment are never closed, even if they are more.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), time: AtomicU64::new(0), open: Mutex::default() })
    }

    /// How many files are open.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        let open = lock(&self.open);
        open.handles.iter().filter_map(Weak::upgrade).filter(|handle| handle.get().is_some()).count()
    }

    /// Closes what it takes for one more file to be open. Blocks: closing may take a sync.
    pub(crate) fn room(self: &Arc<Self>) -> Room {
        self.time.fetch_add(1, Ordering::Relaxed);
        let mut refused = 0;
        loop {
            let mut open = lock(&self.open);
            // One that can't be closed is in use. If all are, it is better to be over the limit for a moment than to wait.
            let victim = if refused < self.limit { open.victim(self.limit) } else { None };
            // It takes its room until it is closed.
            open.promised += 1;
            let Some(victim) = victim else { return Room(self.clone()) };
            drop(open);
            let is_closed = victim.close(File::sync_all);
            let mut open = lock(&self.open);
            open.promised -= 1;
            if !is_closed {
                refused += 1;
                open.handles.push(Arc::downgrade(&victim));
            }
        }
    }
}

impl Open {
    /// Takes out the handle that is best closed; `None` if there is room, or nothing that can be closed.
    fn victim(&mut self, limit: usize) -> Option<Arc<Handle>> {
        if self.handles.len() + self.promised < limit {
            return None;
        }
        self.handles.retain(|handle| handle.strong_count() > 0);
        if self.handles.len() + self.promised < limit {
            return None;
        }
        let all = self.handles.iter().map(Weak::upgrade).enumerate();
        let idle = all.filter_map(|(at, handle)| handle.filter(|handle| !handle.is_busy()).map(|handle| (at, handle)));
        let (at, victim) = idle.min_by_key(|(_, h)| (h.is_dirty(), h.used.load(Ordering::Relaxed)))?;
        // Not `swap_remove`: of equals the first is taken.
        self.handles.remove(at);
        Some(victim)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.0.open).promised -= 1;
    }
}

impl Handle {
    /// A handle for a file that stays open.
    pub(crate) fn pinned(file: File) -> Arc<Self> {
        Self::new(None, Some(file))
    }

    /// A handle for a file that is open.
    pub(crate) fn opened(file: File, room: &Room) -> Arc<Self> {
        let handle = Self::new(Some(room.0.clone()), Some(file));
        handle.join(&room.0);
        handle
    }

    /// A handle for a file that is not open yet.
    pub(crate) fn closed(pool: &Arc<Pool>) -> Arc<Self> {
        Self::new(Some(pool.clone()), None)
    }

    fn new(pool: Option<Arc<Pool>>, file: Option<File>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            file: RwLock::new(file.map(Arc::new)),
            used: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            len: AtomicU64::new(0),
            synced: Mutex::default(),
        })
    }

    fn join(self: &Arc<Self>, pool: &Pool) {
        self.touch(pool);
        lock(&pool.open).handles.push(Arc::downgrade(self));
    }

    fn touch(&self, pool: &Pool) {
        let now = pool.time.load(Ordering::Relaxed);
        // Looked at first, so that cores that use the same file don't take the line from each other each time.
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// The file, if it is open: then it stays so for as long as this is held. Never waits.
    pub(crate) fn get(&self) -> Option<Arc<File>> {
        let file = match self.file.try_read() {
            Ok(file) => file.clone(),
            Err(TryLockError::Poisoned(file)) => file.into_inner().clone(),
            // It is being opened or closed.
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(pool) = self.pool.as_ref().filter(|_| file.is_some()) {
            self.touch(pool);
        }
        file
    }

    /// The file, which `open` opens if it is closed. Blocks.
    pub(crate) fn get_or<E>(self: &Arc<Self>, open: impl FnOnce() -> Result<File, E>) -> Result<Arc<File>, E> {
        if let Some(file) = self.get() {
            return Ok(file);
        }
        // Before the lock, as it may take long.
        let room = self.pool.as_ref().map(|pool| pool.room());
        let mut slot = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = Arc::new(open()?);
        *slot = Some(file.clone());
        drop(slot);
        if let Some(room) = room {
            self.join(&room.0);
        }
        Ok(file)
    }

    /// Says that the file was changed. To be called after the change, while the file is still held.
    pub(crate) fn changed(&self) {
        if !self.is_dirty() {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Says that an earlier run may have changed the file.
    pub(crate) fn unsure(&self) {
        lock(&self.synced).unsure = true;
    }

    fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// How long the file was when it was closed last; 0 if it never was.
    pub(crate) fn len_when_closed(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether a sync has nothing to do. Waits for one that is under way; fails if one ever failed.
    pub(crate) fn is_synced(&self) -> io::Result<bool> {
        lock(&self.synced).is_done(self.is_dirty())
    }

    /// Returns when all that was changed before is on stable storage; never again after it failed once. Callers at the same
    /// time share one sync, since the kernel tells of a failure once, to one of them.
    pub(crate) fn sync(&self, file: &File, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        self.sync_locked(&mut lock(&self.synced), file, sync)
    }

    fn sync_locked(
        &self,
        synced: &mut Synced,
        file: &File,
        sync: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        if synced.is_done(self.is_dirty())? {
            return Ok(());
        }
        // First: what is changed from here on may be missed by this sync.
        self.dirty.swap(false, Ordering::AcqRel);
        sync(file).inspect_err(|e| synced.failed = Some(e.kind()))?;
        synced.unsure = false;
        Ok(())
    }

    fn is_busy(&self) -> bool {
        match self.file.try_read() {
            Ok(file) => file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1),
            Err(_) => true,
        }
    }

    /// Closes the file, after a sync if it is dirty; whether it is closed now. Waits for nobody who uses it.
    fn close(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> bool {
        let mut synced = match self.synced.try_lock() {
            Ok(synced) => synced,
            Err(TryLockError::Poisoned(synced)) => synced.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if self.is_dirty()
            && let Some(file) = self.get()
        {
            // Its failure is kept, for the next who wants a sync.
            let _ = self.sync_locked(&mut synced, &file, sync);
        }
        let Ok(mut slot) = self.file.try_write() else { return false };
        let Some(file) = slot.as_mut() else { return true };
        // With nobody else in possession of it, whatever was changed was also said to be.
        let Some(file) = Arc::get_mut(file) else { return false };
        if self.is_dirty() && synced.failed.is_none() {
            return false;
        }
        if let Ok(metadata) = file.metadata() {
            self.len.store(metadata.len(), Ordering::Relaxed);
        }
        *slot = None;
        true
    }
}

impl Synced {
    fn is_done(&self, dirty: bool) -> io::Result<bool> {
        if let Some(kind) = self.failed {
            return Err(io::Error::new(kind, "an earlier sync failed, and what it covered may be lost"));
        }
        Ok(!dirty && !self.unsure)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("dirty", &self.dirty).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn file() -> io::Result<File> {
        tempfile::tempfile()
    }

    fn handles(pool: &Arc<Pool>, count: usize) -> Vec<Arc<Handle>> {
        let handles: Vec<_> = (0..count).map(|_| Handle::closed(pool)).collect();
        handles.iter().for_each(|handle| drop(handle.get_or(file).unwrap()));
        handles
    }

    fn open(handles: &[Arc<Handle>]) -> Vec<usize> {
        // Not by `get`, which is a use.
        (0..handles.len()).filter(|i| handles[*i].file.read().unwrap().is_some()).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_is_closed() {
        let pool = Pool::new(3);
        let all = handles(&pool, 4);
        assert_eq!(open(&all), [1, 2, 3]);
        assert!(all[1].get().is_some() && all[0].get().is_none());
        all[0].get_or(file).unwrap();
        assert_eq!(open(&all), [0, 1, 3]);
    }

    #[test]
    fn what_is_in_use_is_not_closed() {
        let pool = Pool::new(2);
        let all = handles(&pool, 2);
        let held = [all[0].get().unwrap(), all[1].get().unwrap()];
        assert!(!all[0].close(File::sync_all));
        let more = handles(&pool, 1);
        assert_eq!((open(&all), open(&more)), (vec![0, 1], vec![0]));
        // Over the limit only for as long as it must be.
        drop(held);
        let last = handles(&pool, 1);
        assert_eq!(open(&all).len() + open(&more).len() + open(&last).len(), 2);
    }

    #[test]
    fn what_is_gone_leaves_its_room_and_what_failed_to_open_takes_none() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            drop(handles(&pool, 2));
            let failure: io::Result<File> = Err(io::ErrorKind::NotFound.into());
            assert!(Handle::closed(&pool).get_or(|| failure).is_err());
        }
        let all = handles(&pool, 2);
        assert_eq!(open(&all), [0, 1]);
        assert!(lock(&pool.open).promised == 0 && lock(&pool.open).handles.len() == 2);
    }

    #[test]
    fn what_is_clean_is_closed_before_what_is_dirty_and_that_only_after_a_sync() {
        let pool = Pool::new(2);
        let all = handles(&pool, 2);
        all[0].changed();
        let third = handles(&pool, 1);
        assert_eq!(open(&all), [0]);
        third[0].changed();
        let fourth = handles(&pool, 1);
        assert_eq!((open(&all), open(&third), open(&fourth)), (vec![], vec![0], vec![0]));
        assert!(all[0].is_synced().unwrap() && !third[0].is_synced().unwrap());
    }

    #[test]
    fn a_sync_that_fails_when_a_file_is_closed_is_not_forgotten() {
        let pool = Pool::new(2);
        let all = handles(&pool, 1);
        all[0].changed();
        assert!(all[0].close(|_| Err(Errno::NOSPC.into())));
        assert!(open(&all).is_empty());
        // Whoever asks first was not told by the kernel.
        assert_eq!(all[0].is_synced().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let file = all[0].get_or(file).unwrap();
        assert!(all[0].sync(&file, File::sync_data).is_err());
        // There is nothing to wait for any more.
        all[0].changed();
        drop(file);
        assert!(all[0].close(|_| Ok(())));
    }

    #[test]
    fn a_change_during_the_sync_keeps_a_file_open() {
        let all = handles(&Pool::new(2), 1);
        all[0].changed();
        let closed = all[0].close(|_| {
            all[0].changed();
            Ok(())
        });
        assert!(!closed && !all[0].is_synced().unwrap());
        assert!(all[0].close(|_| Ok(())) && all[0].is_synced().unwrap());
    }

    #[test]
    fn what_an_earlier_run_left_is_synced_when_it_is_asked_for_only() {
        let all = handles(&Pool::new(2), 1);
        all[0].unsure();
        assert!(all[0].close(|_| panic!("nobody asked for it")));
        let file = all[0].get_or(file).unwrap();
        assert!(!all[0].is_synced().unwrap());
        all[0].sync(&file, File::sync_data).unwrap();
        assert!(all[0].is_synced().unwrap());
    }
}
