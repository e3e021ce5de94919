//! `dlm seed`: gives files that are there to others.

use std::path::PathBuf;

use async_trait::async_trait;
use dlm_api::{Client, Error, ErrorKind, ExistingFiles, Result};
use dlm_bittorrent::{BitTorrent, BitTorrentConfig, Metainfo, SeedGoal};

use super::args::SeedArgs;
use super::engine::swarms;
use super::get::{Engine, Running};
use super::plan::{Request, Target, torrent_at};
use super::torrent::place;

/// What `args` ask for: a request for each torrent.
///
/// # Errors
///
/// A sentence for the user, if a torrent or what it is of can't be read.
pub(super) fn requests(args: &SeedArgs) -> Result<Vec<Request>, String> {
    if let Err(error) = args.path.metadata() {
        return Err(format!("cannot read {}: {error}", args.path.display()));
    }
    if args.swarm.seed.goal() == SeedGoal::OFF {
        return Err("--seed off: nothing would be given to anybody".to_owned());
    }
    let request = |torrent: &PathBuf| {
        let (url, bytes) = torrent_at(torrent)?;
        // Looked at here, where a mistake is one of the command line.
        match Metainfo::parse(bytes.clone()) {
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                return Err(format!("{}: {}", torrent.display(), error.chain()));
            }
            _ => {}
        }
        let target = Target::Dir(args.path.clone());
        Ok(Request { url, container: Some(bytes), mirrors: Vec::new(), checksum: None, target })
    };
    args.files.iter().chain(&args.swarm.torrents).map(request).collect()
}

/// Gives to others what is at a path.
pub(super) struct Seeds<'a> {
    client: Client,
    swarms: BitTorrent,
    args: &'a SeedArgs,
}

impl<'a> Seeds<'a> {
    /// For these options.
    pub(super) fn new(args: &'a SeedArgs) -> Result<Self> {
        let config = swarms(BitTorrentConfig::default(), &args.swarm, args.quiet)?;
        Ok(Self { client: Client::builder().build(), swarms: BitTorrent::with_config(config)?, args })
    }
}

#[async_trait(?Send)]
impl Engine for Seeds<'_> {
    async fn start(&self, request: &Request) -> Result<Box<dyn Running>> {
        let torrent = Metainfo::parse(request.container.clone().unwrap_or_default())?;
        let places = place(&torrent, &self.args.path);
        let files = torrent.files().iter().zip(places).filter_map(|(file, at)| Some((file.path.clone(), at?)));
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "none of the torrent's files is there")
                .with("path", self.args.path.display()));
        }
        let download = self.client.download_from_sources().source_of_many(self.swarms.torrent(&torrent));
        Ok(Box::new(download.share_only().to_sink(ExistingFiles::new(files)).start()))
    }
}
