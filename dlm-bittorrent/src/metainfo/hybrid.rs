//! Whether both halves of a hybrid torrent (BEP 52) mean the same files.
//!
//! dlm uses the half that BEP 3 describes. But if the halves differ, clients of both kinds are in one swarm for content
//! that is not the same, so BEP 52 wants such torrents refused.

use bendy::decoding::Decoder;
use dlm_api::{Error, ErrorKind, Result};

use super::geometry::BLOCK_LEN;
use crate::bencode::{Entries, Limits, Value};

/// A file that is neither empty nor padding, as the first half has it.
pub(super) struct Known<'d> {
    pub path: Vec<&'d [u8]>,
    pub offset: u64,
    pub len: u64,
}

/// Compares the `file tree` with the files of the first half, in order.
pub(super) fn check<'d>(info: Value<'d>, piece_len: u32, files: impl Iterator<Item = Known<'d>>) -> Result<()> {
    let bad = |message| Error::new(ErrorKind::InvalidInput, message);
    // BEP 52 asks for the canonical form. `bendy` takes nothing else.
    if let Some(Err(e)) =
        Decoder::new(info.raw()).with_max_depth(Limits::TORRENT.max_depth).tokens().find(Result::is_err)
    {
        return Err(bad("a hybrid torrent that is not in canonical form").with("reason", e.to_string()));
    }
    if !piece_len.is_power_of_two() || piece_len < BLOCK_LEN {
        return Err(bad("pieces of this length are not allowed in a hybrid torrent").with("piece_len", piece_len));
    }
    let tree =
        info.get("file tree").and_then(Value::as_dict).ok_or_else(|| bad("a hybrid torrent without a file tree"))?;
    let mut leaves = Leaves { path: Vec::new(), open: vec![tree] };
    let differ = |offset: u64| bad("the two halves of a hybrid torrent differ").with("offset", offset);
    for file in files {
        let leaf = leaves.next_filled()?.ok_or_else(|| differ(file.offset))?;
        if leaf.path != file.path || leaf.len != file.len || file.offset % u64::from(piece_len) != 0 {
            return Err(differ(file.offset));
        }
    }
    match leaves.next_filled()? {
        None => Ok(()),
        Some(_) => Err(bad("the two halves of a hybrid torrent differ")),
    }
}

/// A file of the tree.
struct Leaf<'d> {
    path: Vec<&'d [u8]>,
    len: u64,
}

/// Walks the tree without recursion. Its depth is bounded by that of the document.
struct Leaves<'d> {
    path: Vec<&'d [u8]>,
    open: Vec<Entries<'d>>,
}

impl<'d> Leaves<'d> {
    /// The next file that has bytes: its path and length.
    fn next_filled(&mut self) -> Result<Option<Leaf<'d>>> {
        loop {
            let Some(folder) = self.open.last_mut() else { return Ok(None) };
            let Some((name, value)) = folder.next() else {
                self.open.pop();
                self.path.pop();
                continue;
            };
            let bad = || Error::new(ErrorKind::InvalidInput, "not a file tree").with("at", value.span().start);
            let entries = value.as_dict().filter(|_| !name.is_empty()).ok_or_else(bad)?;
            self.path.push(name);
            match value.get("") {
                None => self.open.push(entries),
                Some(file) if entries.count() == 1 => {
                    let path = self.path.clone();
                    self.path.pop();
                    let attributes = file.get("attr").and_then(Value::as_bytes).unwrap_or_default();
                    if attributes.contains(&b'p') {
                        return Err(bad());
                    }
                    let len = file.get("length").and_then(Value::as_int).unwrap_or(-1);
                    match u64::try_from(len) {
                        _ if attributes.contains(&b'l') => {}
                        Ok(0) => {}
                        Ok(len) => return Ok(Some(Leaf { path, len })),
                        Err(_) => return Err(bad()),
                    }
                }
                Some(_) => return Err(bad()),
            }
        }
    }
}
