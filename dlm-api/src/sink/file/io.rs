//! What is done with an open file: writes, reads, and room for what comes.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};

use bytes::{Buf, Bytes};
use rustix::io::Errno;

/// The most slices in one system call. The kernel takes 1024; a merged write has far fewer, and these are on the stack.
const MAX_SLICES: usize = 64;

/// File systems on which space is not reserved, by the type that they give themselves in `statfs` (linux/magic.h). On btrfs
/// reserved space is not compressed, and what is written goes elsewhere anyway; tmpfs would fill all of it with zeros first,
/// which costs as much as writing it.
#[cfg(target_os = "linux")]
pub(super) const UNRESERVED: [u32; 2] = [0x9123_683e, 0x0102_1994];

/// Writes all of `data` at `offset`, without a copy and without an allocation.
pub(super) fn write_at(file: &File, mut offset: u64, data: &mut [Bytes]) -> io::Result<()> {
    let mut done = 0;
    loop {
        done += data[done..].iter().take_while(|chunk| chunk.is_empty()).count();
        let left = &mut data[done..];
        if left.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = left.len().min(MAX_SLICES);
        for (slice, chunk) in slices.iter_mut().zip(left.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = match rustix::io::pwritev(file, &slices[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        offset += written as u64;
        for chunk in left {
            let taken = written.min(chunk.len());
            chunk.advance(taken);
            written -= taken;
            if written == 0 {
                break;
            }
        }
    }
}

/// Reads `len` bytes at `offset`.
pub(super) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

/// Reserves space, where the file system can; otherwise only looks whether there is enough.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    // Looked at first, since a failing `fallocate` fills the disk for everyone before it gives the space back.
    let (wanted, free, available) = space(file, len)?;
    if wanted > free {
        return Err(io::ErrorKind::StorageFull.into());
    }
    #[cfg(target_os = "linux")]
    if len > 0 && !UNRESERVED.contains(&(rustix::fs::fstatfs(file)?.f_type as u32)) {
        loop {
            match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
    if wanted > available { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Looks whether there is enough space, and changes nothing.
pub(super) fn look_for_space(file: &File, len: u64) -> io::Result<()> {
    let (wanted, _, available) = space(file, len)?;
    if wanted > available { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// The bytes that the file lacks to be `len` long, those that are free, and those without what is kept for root.
fn space(file: &File, len: u64) -> io::Result<(u64, u64, u64)> {
    let space = rustix::fs::fstatvfs(file)?;
    // `blocks` counts in 512 bytes whatever the file system's block is (stat(2)).
    let wanted = len.saturating_sub(file.metadata()?.blocks().saturating_mul(512));
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok((wanted, bytes(space.f_bfree), bytes(space.f_bavail)))
}

/// Gives back the space of a range, where the file system can. The bytes mean nothing any more, whether or not it does.
pub(super) fn discard(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if len > 0 {
        use rustix::fs::FallocateFlags;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(file, flags, offset, len);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn chunks(count: usize) -> Vec<Bytes> {
        (0..count).map(|i| Bytes::from(vec![i as u8; i % 7])).collect()
    }

    #[test]
    fn any_number_of_chunks_is_written_in_order() {
        for count in [0, 1, MAX_SLICES - 1, MAX_SLICES, MAX_SLICES + 1, 3000] {
            let file = tempfile::tempfile().unwrap();
            let mut data = chunks(count);
            let wanted = data.concat();
            write_at(&file, 5, &mut data).unwrap();
            assert_eq!(read_at(&file, 5, wanted.len()).unwrap(), wanted, "{count}");
            assert_eq!(file.metadata().unwrap().len(), if wanted.is_empty() { 0 } else { 5 + wanted.len() as u64 });
        }
    }

    #[test]
    fn a_full_device_is_no_space() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = Error::storage("x", write_at(&full, 0, &mut [Bytes::from_static(b"x")]).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }
}
