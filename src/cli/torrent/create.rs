//! `dlm torrent create`.

use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use dlm_api::{Error, ErrorKind};
use dlm_bittorrent::Metainfo;
use dlm_bittorrent::metainfo::create::{NewFile, Options, Plan};

use super::hash::{changed, hash, parts, storage};
use super::{Failure, bar};
use crate::cli::args::CreateArgs;
use crate::cli::escape::plain;
use crate::cli::exit::Exit;
use crate::cli::units::size;

/// The number of bytes of a piece's hash.
const HASH_LEN: usize = 20;

/// How many of the things that were left out are named: enough to see what they are.
const LISTED: usize = 20;

/// The most folders in each other: real trees are far less deep, and an entry of a download can't be deeper.
const MAX_DEPTH: usize = 64;

/// Makes a torrent.
pub(super) fn run(args: &CreateArgs) -> Result<Exit, Failure> {
    let content = Content::look(args)?;
    let plan = content.plan(args)?;
    let output = Output::new(args, &content.name)?;

    let sources = content.files.iter().zip(plan.files()).map(|(found, file)| (Some(found.path.clone()), file.len));
    let parts = parts(sources);
    let geometry = plan.geometry();
    let pieces = Mutex::new(vec![0; geometry.piece_count() as usize * HASH_LEN]);
    let bar = bar(geometry.len());
    let hashed = hash(
        &parts,
        geometry,
        &bar,
        |_| true,
        |piece, hash| {
            let at = piece as usize * HASH_LEN;
            lock(&pieces)[at..at + HASH_LEN].copy_from_slice(&hash.map_err(|(_, error)| error)?);
            Ok(())
        },
    );
    bar.finish_and_clear();
    hashed?;
    content.files.iter().try_for_each(Found::check)?;

    let torrent = plan.encode(std::mem::take(&mut *lock(&pieces)).into())?;
    // Whatever is wrong with it is to be found out now rather than by whoever gets it.
    let read = Metainfo::parse(torrent.clone())?;
    output.write(&torrent)?;
    if content.left_out > 0 {
        let more = if content.left_out > content.left_out_first.len() { ", ..." } else { "" };
        let names = content.left_out_first.join(", ");
        // Standard error being gone changes nothing.
        let _ =
            writeln!(io::stderr(), "left out, as they are no files: {} ({}{more})", content.left_out, plain(&names));
    }
    if let Output::File(path) = &output {
        let wrote = Failure::Output;
        let path = path.to_string_lossy();
        let (len, piece_len) = (size(geometry.len()), size(geometry.piece_len().into()));
        let pieces = geometry.piece_count();
        let mut out = io::stdout().lock();
        writeln!(out, "{}: {len}, pieces of {piece_len}: {pieces}", plain(&path)).map_err(wrote)?;
        writeln!(out, "info-hash {}", read.info_hash()).map_err(wrote)?;
    }
    Ok(Exit::Complete)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What there is to make a torrent of.
struct Content {
    name: String,
    is_single: bool,
    /// In the order of the torrent.
    files: Vec<Found>,
    /// How many links and other things that are no files there were, and what the first of them are called.
    left_out: usize,
    left_out_first: Vec<String>,
}

/// A file, as it was when it was found.
struct Found {
    path: PathBuf,
    /// Its path below the torrent's folder.
    components: Vec<String>,
    len: u64,
    modified: Option<SystemTime>,
    is_executable: bool,
}

impl Content {
    fn look(args: &CreateArgs) -> Result<Self, Failure> {
        let cannot = |error| format!("cannot read {}: {error}", args.path.display());
        // The name of `.` or of a link is that of what it is.
        let path = args.path.canonicalize().map_err(cannot)?;
        let metadata = path.metadata().map_err(cannot)?;
        let name = match (&args.name, path.file_name()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => usable(name.to_str(), &path)?,
            (None, None) => return Err("the path has no name: give one with --name".to_owned().into()),
        };
        let mut content =
            Self { name, is_single: metadata.is_file(), files: Vec::new(), left_out: 0, left_out_first: Vec::new() };
        if metadata.is_file() {
            content.files.push(Found::new(path, Vec::new(), &metadata));
        } else if metadata.is_dir() {
            content.walk(&path, &mut Vec::new())?;
        } else {
            return Err(format!("{} is neither a file nor a folder", args.path.display()).into());
        }
        if content.files.iter().all(|file| file.len == 0) {
            return Err(format!("there is nothing in {}: a torrent needs a byte at least", args.path.display()).into());
        }
        Ok(content)
    }

    /// Adds the files below `folder` in the order of their names, byte by byte, folder by folder.
    fn walk(&mut self, folder: &Path, above: &mut Vec<String>) -> Result<(), Failure> {
        if above.len() >= MAX_DEPTH {
            return Err(format!("{}: more than {MAX_DEPTH} folders in each other", folder.display()).into());
        }
        let cannot = |error| storage("cannot read", folder, error);
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(cannot)?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        for name in names {
            let path = folder.join(&name);
            let metadata = path.symlink_metadata().map_err(|error| storage("cannot read", &path, error))?;
            if !metadata.is_file() && !metadata.is_dir() {
                self.left_out += 1;
                if self.left_out_first.len() < LISTED {
                    let name = name.to_string_lossy();
                    self.left_out_first
                        .push(above.iter().map(String::as_str).chain([&*name]).collect::<Vec<_>>().join("/"));
                }
                continue;
            }
            above.push(usable(name.to_str(), &path)?);
            if metadata.is_dir() {
                self.walk(&path, above)?;
            } else {
                self.files.push(Found::new(path, above.clone(), &metadata));
            }
            above.pop();
        }
        Ok(())
    }

    fn plan(&self, args: &CreateArgs) -> Result<Plan, Failure> {
        let mut options = Options::default()
            .with_trackers(args.trackers.iter().map(|tracker| vec![tracker.as_str().to_owned()]).collect())
            .with_web_seeds(args.web_seeds.clone())
            .with_private(args.private)
            .with_created_by(concat!("dlm/", env!("CARGO_PKG_VERSION")));
        if let Some(piece) = args.piece {
            // One that is far too long is refused like one that is a little too long.
            options = options.with_piece_len(u32::try_from(piece).unwrap_or(1 << 31));
        }
        if let Some(comment) = &args.comment {
            options = options.with_comment(comment);
        }
        if let Some(source) = &args.source {
            options = options.with_source(source);
        }
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            options = options.with_creation_date(now.as_secs());
        }
        let plan = match &self.files[..] {
            [only] if self.is_single => Plan::single(&self.name, only.len, options),
            files => Plan::folder(&self.name, files.iter().map(Found::planned).collect(), options),
        };
        plan.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::TooLarge => Failure::Usage(error.chain()),
            _ => error.into(),
        })
    }
}

/// The name, if a torrent can have it.
fn usable(name: Option<&str>, path: &Path) -> Result<String, Failure> {
    match name {
        None => Err(format!("{}: the name is not UTF-8 text", path.display()).into()),
        // Where that separates folders it would be another path.
        Some(name) if name.contains('\\') => {
            Err(format!("{}: a name with a backslash can't be in a torrent", path.display()).into())
        }
        Some(name) => Ok(name.to_owned()),
    }
}

impl Found {
    fn new(path: PathBuf, components: Vec<String>, metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let is_executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0;
        #[cfg(not(unix))]
        let is_executable = false;
        Self { path, components, len: metadata.len(), modified: metadata.modified().ok(), is_executable }
    }

    fn planned(&self) -> NewFile {
        NewFile::new(self.components.iter().cloned(), self.len).with_executable(self.is_executable)
    }

    /// Fails if it is not any more what was hashed: the torrent would be one of nothing that ever was.
    fn check(&self) -> Result<(), Failure> {
        let now = self.path.symlink_metadata().map_err(|error| storage("cannot read", &self.path, error))?;
        if now.len() == self.len && now.modified().ok() == self.modified {
            return Ok(());
        }
        Err(changed(&self.path).into())
    }
}

/// Where the torrent goes.
enum Output {
    Stdout,
    File(PathBuf),
}

impl Output {
    /// Fails before hours are spent on hashing if it can't go there.
    fn new(args: &CreateArgs, name: &str) -> Result<Self, Failure> {
        let path = match &args.output {
            Some(path) if path.as_os_str() == "-" && io::stdout().is_terminal() => {
                return Err("a torrent is not fit for a terminal: name a file with --output".to_owned().into());
            }
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{name}.torrent")),
        };
        if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(format!("{} is a folder: --output names a file", path.display()).into());
        }
        // What it takes to make a file is best found out by making one.
        create(&path)?;
        fs::remove_file(&path).map_err(|error| storage("cannot remove", &path, error))?;
        Ok(Self::File(path))
    }

    fn write(&self, torrent: &[u8]) -> Result<(), Failure> {
        let path = match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                return out.write_all(torrent).and_then(|()| out.flush()).map_err(Failure::Output);
            }
            Self::File(path) => path,
        };
        let mut file = create(path)?;
        file.write_all(torrent).and_then(|()| file.sync_all()).map_err(|error| {
            // Half a torrent is of no use; the failure that counts is the first.
            let _ = fs::remove_file(path);
            storage("cannot write", path, error).into()
        })
    }
}

/// Makes the file, which must not be there.
fn create(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::Exists, "the file is there already: name another one with --output")
                .with("path", path.display())
                .into()
        }
        _ => storage("cannot create", path, error).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before hours are spent on hashing.
    #[test]
    fn where_nothing_can_be_made_is_found_out_first() {
        let dir = tempfile::tempdir().unwrap();
        let output = |path: &Path| {
            let args = CreateArgs {
                path: PathBuf::new(),
                output: Some(path.to_owned()),
                piece: None,
                trackers: Vec::new(),
                web_seeds: Vec::new(),
                private: false,
                comment: None,
                source: None,
                name: None,
            };
            Output::new(&args, "name")
        };
        assert!(matches!(output(&dir.path().join("missing/x.torrent")), Err(Failure::Error(_))));
        assert!(matches!(output(&dir.path().join("new/")), Err(Failure::Usage(_))));
        assert!(matches!(output(dir.path()), Err(Failure::Usage(_))));
        assert!(matches!(output(&dir.path().join("x.torrent")), Ok(Output::File(_))));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "it was only tried");
    }

    #[test]
    fn what_changes_meanwhile_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let found = Found::new(path.clone(), Vec::new(), &path.metadata().unwrap());
        assert!(found.check().is_ok());
        // Another time, and the same length.
        File::options().append(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert!(matches!(found.check(), Err(Failure::Error(error)) if error.message().contains("changed")));
        let found = Found::new(path.clone(), Vec::new(), &path.metadata().unwrap());
        fs::remove_file(path).unwrap();
        assert!(found.check().is_err());
    }
}
