//! `dlm torrent show`.

use std::io::{self, Write};

use dlm_bittorrent::{Magnet, Metainfo};
use serde::Serialize;

use super::Failure;
use super::scrape::{Scraped, scrape};
use crate::cli::args::ShowArgs;
use crate::cli::escape::plain;
use crate::cli::exit::Exit;
use crate::cli::show::write_json;
use crate::cli::units::{date, size};

/// Shows a torrent, or a magnet link.
pub(super) fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    let magnet = args.torrent.to_str().filter(|text| text.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("magnet:")));
    let shown = match magnet {
        Some(link) => {
            let magnet = link.parse::<Magnet>().map_err(|error| error.chain())?;
            let swarms = args.scrape.then(|| scrape(|torrents| torrents.magnet(&magnet))).transpose()?;
            Shown { swarms, ..Shown::of_magnet(&magnet) }
        }
        None => {
            let torrent = super::read(&args.torrent)?;
            let swarms = args.scrape.then(|| scrape(|torrents| torrents.torrent(&torrent))).transpose()?;
            Shown { swarms, ..Shown::of_torrent(&torrent) }
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json { write_json(&mut out, &shown) } else { shown.write(&mut out) };
    written.and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(Exit::Complete)
}

/// What is known. `docs/json-torrent.md` describes it for users; a test keeps it true.
#[derive(Serialize)]
struct Shown {
    name: Option<String>,
    info_hash: String,
    len: Option<u64>,
    piece_len: Option<u32>,
    pieces: Option<u32>,
    private: Option<bool>,
    hybrid: Option<bool>,
    comment: Option<String>,
    source: Option<String>,
    created_by: Option<String>,
    creation_date: Option<u64>,
    trackers: Vec<Vec<String>>,
    swarms: Option<Vec<Scraped>>,
    web_seeds: Vec<String>,
    peers: Vec<String>,
    files: Option<Vec<ShownFile>>,
}

#[derive(Serialize)]
struct ShownFile {
    index: usize,
    path: String,
    len: u64,
    executable: bool,
}

impl Shown {
    fn of_torrent(torrent: &Metainfo) -> Self {
        // Padding, and links, which are never made, are no files for anybody.
        let files = torrent.files().iter().enumerate().filter(|(_, file)| file.is_wanted());
        let files = files.map(|(index, file)| ShownFile {
            index,
            path: file.path.to_string(),
            len: file.len,
            executable: file.is_executable,
        });
        Self {
            name: Some(torrent.name().to_owned()),
            info_hash: torrent.info_hash().to_string(),
            len: Some(torrent.len()),
            piece_len: Some(torrent.piece_len()),
            pieces: Some(torrent.piece_count()),
            private: Some(torrent.is_private()),
            hybrid: Some(torrent.info().is_hybrid()),
            comment: torrent.comment().map(str::to_owned),
            source: torrent.source().map(str::to_owned),
            created_by: torrent.created_by().map(str::to_owned),
            creation_date: torrent.creation_date(),
            trackers: torrent.trackers().to_vec(),
            swarms: None,
            web_seeds: torrent.web_seeds().iter().map(ToString::to_string).collect(),
            peers: Vec::new(),
            files: Some(files.collect()),
        }
    }

    fn of_magnet(magnet: &Magnet) -> Self {
        Self {
            name: magnet.name.clone(),
            info_hash: magnet.info_hash.to_string(),
            len: None,
            piece_len: None,
            pieces: None,
            private: None,
            hybrid: None,
            comment: None,
            source: None,
            created_by: None,
            creation_date: None,
            trackers: magnet.trackers.iter().map(|tracker| vec![tracker.clone()]).collect(),
            swarms: None,
            web_seeds: magnet.web_seeds.iter().map(ToString::to_string).collect(),
            peers: magnet.peers.iter().map(ToString::to_string).collect(),
            files: None,
        }
    }

    /// For people. What the torrent says is made fit for a terminal.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |name: &str, value: &str| writeln!(out, "{name:<11} {}", plain(value));
        if let Some(name) = &self.name {
            line("name", name)?;
        }
        line("info-hash", &self.info_hash)?;
        if let Some(len) = self.len {
            line("size", &format!("{} ({len} bytes)", size(len)))?;
        }
        if let (Some(pieces), Some(len)) = (self.pieces, self.piece_len) {
            line("pieces", &format!("{pieces} of {}", size(len.into())))?;
        }
        if let Some(private) = self.private {
            line("private", if private { "yes" } else { "no" })?;
        }
        if self.hybrid == Some(true) {
            line("versions", "1 and 2")?;
        }
        if let Some(seconds) = self.creation_date {
            line("created", &date(seconds))?;
        }
        let texts = [("source", &self.source), ("created by", &self.created_by)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
            line(name, text)?;
        }
        for (i, text) in self.comment.iter().flat_map(|comment| comment.lines()).enumerate() {
            line(if i == 0 { "comment" } else { "" }, text)?;
        }
        for (tier, urls) in self.trackers.iter().enumerate() {
            urls.iter().try_for_each(|url| line(&format!("tracker {}", tier + 1), url))?;
        }
        for swarm in self.swarms.iter().flatten() {
            line("swarm", &format!("{} ({})", swarm.line(), swarm.tracker))?;
        }
        self.web_seeds.iter().try_for_each(|url| line("web seed", url))?;
        self.peers.iter().try_for_each(|peer| line("peer", peer))?;
        let Some(files) = &self.files else { return Ok(()) };
        line("files", &files.len().to_string())?;
        files.iter().try_for_each(|file| {
            let kind = if file.executable { "  (program)" } else { "" };
            writeln!(out, "{:>5}  {:>10}  {}{kind}", file.index, size(file.len), plain(&file.path))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::escape::is_unsafe;
    use serde_json::Value;

    fn hostile() -> Shown {
        let evil = "x\x1b]0;owned\x07\u{9b}2J\u{202e}".to_owned();
        Shown {
            name: Some(evil.clone()),
            comment: Some(format!("{evil}\n{evil}")),
            source: Some(evil.clone()),
            created_by: Some(evil.clone()),
            trackers: vec![vec![evil.clone()]],
            web_seeds: vec![evil.clone()],
            peers: vec![evil.clone()],
            files: Some(vec![ShownFile { index: 0, path: evil, len: 1, executable: false }]),
            ..Shown::of_magnet(&"magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a".parse().unwrap())
        }
    }

    #[test]
    fn nothing_in_a_torrent_is_obeyed_by_the_terminal() {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        hostile().write(&mut text).unwrap();
        write_json(&mut json, &hostile()).unwrap();
        for out in [text, json] {
            let out = String::from_utf8(out).unwrap();
            assert!(!out.replace('\n', "").contains(is_unsafe), "{out:?}");
        }
    }

    #[test]
    fn what_is_known_is_shown() {
        let files = vec![ShownFile { index: 0, path: "a/run".to_owned(), len: 1, executable: true }];
        let mut out = Vec::new();
        Shown { hybrid: Some(true), creation_date: Some(1_700_000_000), files: Some(files), ..hostile() }
            .write(&mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in
            ["versions    1 and 2", "created     2023-11-14 22:13:20 UTC", "    0         1 B  a/run  (program)"]
        {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
    }

    /// The document has a line for every field.
    #[test]
    fn the_document_describes_every_field() {
        let document = include_str!("../../../docs/json-torrent.md");
        let value = serde_json::to_value(hostile()).unwrap();
        let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let swarm = ["tracker", "seeds", "leechers", "downloaded", "error"].map(str::to_owned);
        for field in fields(&value).into_iter().chain(swarm).chain(fields(&value["files"][0])) {
            assert!(document.contains(&format!("\n| `{field}` |")), "{field}");
        }
    }
}
