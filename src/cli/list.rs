//! `dlm get --list-files`: which files there are, or which of them `--select` would take.

use std::io::{self, Write};

use dlm_api::{Entry, Error, Result};

use super::engine::Downloads;
use super::escape::plain;
use super::exit::Exit;
use super::plan::Request;
use super::show::{Json, failure, waiting};
use super::units::size;
use super::unwritten;

/// Shows the files of each download, one after the other. The code of the first that failed counts.
pub(super) async fn run(requests: &[Request], downloads: &Downloads<'_>, json: bool) -> Exit {
    let mut exit = Exit::Complete;
    for (id, request) in requests.iter().enumerate() {
        if let Some(line) = waiting(request).filter(|_| !downloads.is_quiet()) {
            // Standard error being gone changes nothing.
            let _ = writeln!(io::stderr(), "{line}");
        }
        let files = downloads.selected(request).await;
        if let (Err(error), Exit::Complete) = (&files, exit) {
            exit = Exit::of(error.kind());
        }
        let told = if json { tell_json(id, request, &files) } else { tell(request, &files) };
        match told {
            Ok(()) => {}
            // The reader had enough: `dlm get --list-files ... | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return exit,
            Err(error) => return unwritten(error),
        }
    }
    exit
}

fn tell_json(id: usize, request: &Request, files: &Result<Vec<Entry>>) -> io::Result<()> {
    let mut json = Json::new(io::stdout().lock());
    match files {
        Ok(files) => files.iter().try_for_each(|file| json.file(id, file)),
        Err(error) => json.failed(id, request, error),
    }
}

fn tell(request: &Request, files: &Result<Vec<Entry>, Error>) -> io::Result<()> {
    match files {
        Ok(files) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            files.iter().try_for_each(|file| writeln!(out, "{}", line(file)))?;
            out.flush()
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", failure(&request.url.to_string(), error));
            Ok(())
        }
    }
}

/// Its number, its length and its path.
fn line(file: &Entry) -> String {
    let len = file.len.map_or_else(|| "?".to_owned(), size);
    format!("{:>5}  {len:>10}  {}", file.id.index(), plain(file.path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_api::{EntryId, EntryPath};

    #[test]
    fn a_line_has_number_length_and_path() {
        let file = Entry::new(EntryId::new(12), EntryPath::new("top/a b").unwrap());
        assert_eq!(line(&file), "   12           ?  top/a b");
        assert_eq!(line(&file.with_len(3 << 20)), "   12    3.00 MiB  top/a b");
    }
}
