//! `-v`: what happens inside, on standard error.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use super::escape::plain;

/// Starts writing it: for 1 what a user can make use of, for 2 and 3 ever more.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // Targets are matched by prefix, so this is every crate of ours and none of those that we use.
    let filter = EnvFilter::new(format!("dlm={level},dlm_api={level},dlm_bittorrent={level},dlm_http={level}"));
    // Fails only when it was started before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| Escaped(io::stderr()))
        .try_init();
}

/// Makes what comes from servers fit for a terminal. Each line of the log is one write.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        writeln!(self.0, "{}", plain(line))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let mut out = Vec::new();
        Escaped(&mut out).write_all(b"a\x1b[2Jb\nc\n").unwrap();
        assert_eq!(out, b"a\\u{1b}[2Jb\\u{a}c\n");
    }
}
