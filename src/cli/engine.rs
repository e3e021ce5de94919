//! The downloads of `dlm-api`, as the command line drives them.

#[cfg(feature = "bittorrent")]
use std::io::{self, Write as _};
use std::path::Path;

use async_trait::async_trait;
use dlm_api::{
    Client, Download, Entry, EntryKind, EntryPath, Error, ErrorKind, Event, Handle, OnExists, Report, Result,
};
use futures::stream::{BoxStream, StreamExt};

use super::args::{self, GetArgs};
use super::get::{Engine, Running};
use super::plan::{Request, Target};
use super::select;
use crate::Protocols;

/// A client, and what the options say of each download.
pub(super) struct Downloads<'a> {
    client: Client,
    args: &'a GetArgs,
}

/// The client that the options ask for.
pub(super) fn client(args: &GetArgs) -> Result<Downloads<'_>> {
    let mut client = protocols(args)?.client()?;
    if let Some(rate) = args.limit {
        client = client.rate_limit(rate);
    }
    if let Some(connections) = args.connections {
        client = client.connections_per_origin(usize::from(connections) * usize::from(args.jobs));
    }
    Ok(Downloads { client: client.build(), args })
}

fn protocols(args: &GetArgs) -> Result<Protocols> {
    let protocols = Protocols::default();
    #[cfg(feature = "http")]
    let protocols = {
        let mut http = servers(protocols.http.clone(), args);
        for header in &args.headers {
            http = http.with_header(header.name(), header.value());
        }
        Protocols { http, ..protocols }
    };
    #[cfg(feature = "bittorrent")]
    let protocols = {
        let bittorrent = protocols.bittorrent.clone();
        let http = servers(bittorrent.http.clone(), args);
        Protocols { bittorrent: swarms(bittorrent.with_http(http), &args.swarm, args.quiet)?, ..protocols }
    };
    let _ = args;
    Ok(protocols)
}

/// How servers are spoken to. The user's headers are for those on the command line, and no business of trackers.
#[cfg(any(feature = "http", feature = "bittorrent"))]
fn servers(http: dlm_http::HttpConfig, args: &GetArgs) -> dlm_http::HttpConfig {
    let mut http = http.with_insecure(args.insecure);
    if let Some(timeout) = args.timeout {
        http = http.with_connect_timeout(timeout).with_head_timeout(timeout).with_read_timeout(timeout);
    }
    if let Some(file) = &args.ca_certificate {
        http = http.with_ca_certificate(file);
    }
    http
}

/// How peers and trackers are spoken to.
#[cfg(feature = "bittorrent")]
pub(super) fn swarms(
    config: dlm_bittorrent::BitTorrentConfig,
    swarm: &args::SwarmArgs,
    quiet: bool,
) -> Result<dlm_bittorrent::BitTorrentConfig> {
    let mut config = config.with_seed(swarm.seed.goal()).with_upload_rate(swarm.upload_limit);
    if let Some(address) = swarm.listen {
        config = config.with_listen(Some(address));
    }
    if let Some(max) = swarm.max_peers.map(usize::from) {
        let (of_all, half_open_of_all) = (config.max_connections.max(max), config.max_half_open_of_all);
        let half_open = config.max_half_open.min(max);
        config = config.with_peers_each(max, half_open).with_peers_of_all(of_all, half_open_of_all);
    }
    config = swarm.peers.iter().cloned().fold(config, |config, peer| config.with_peer(peer));
    config = swarm.trackers.iter().fold(config, |config, tracker| config.with_tracker(tracker.as_str()));
    Ok(if swarm.ip_filters.is_empty() { config } else { config.with_filter(ip_filter(&swarm.ip_filters, quiet)?) })
}

/// What the lists deny together. Lines that nobody understands are told of: who is in them is not kept away.
#[cfg(feature = "bittorrent")]
fn ip_filter(lists: &[std::path::PathBuf], quiet: bool) -> Result<dlm_bittorrent::peer::IpFilter> {
    let mut filter = dlm_bittorrent::peer::IpFilter::new();
    let wrong = |message| Error::new(ErrorKind::InvalidInput, message);
    for path in lists {
        let name = path.display().to_string();
        let list = super::input::read_all(path, "a list of addresses").map_err(wrong)?;
        let read = filter.add_list(&list).map_err(|error| wrong(format!("{name}: {error}")))?;
        if let (Some(line), false) = (read.first_skipped, quiet) {
            let message = format!("warning: {}: line {line} is no range of addresses", super::escape::plain(&name));
            // Standard error being gone changes nothing.
            let _ = match read.skipped {
                1 => writeln!(io::stderr(), "{message}: it is skipped"),
                n => writeln!(io::stderr(), "{message}, and {} more lines: they are skipped", n - 1),
            };
        }
    }
    Ok(filter)
}

impl Downloads<'_> {
    /// What is asked for, from all the places that have it.
    fn download(&self, request: &Request) -> Download {
        let args = self.args;
        let mut download = match &request.container {
            Some(container) => self.client.download_container(request.url.url(), container.clone()),
            None => self.client.download(request.url.url()),
        };
        for mirror in &request.mirrors {
            download = download.mirror(mirror.url());
        }
        if let Some(checksum) = &request.checksum {
            download = download.checksum(checksum.to_string());
        }
        if let Some(connections) = args.connections {
            download = download.connections(connections.into());
        }
        if let Some(retries) = args.retries {
            download = download.retries(retries);
        }
        download.follow_containers(!args.no_follow)
    }

    /// Which files there are, whatever is wanted of them.
    async fn files(&self, request: &Request) -> Result<Vec<Entry>> {
        let mut entries = self.download(request).select(|_| true).inspect().await?;
        entries.retain(|entry| entry.kind == EntryKind::File);
        Ok(entries)
    }

    /// Which files there are that `--select` wants.
    pub(super) async fn selected(&self, request: &Request) -> Result<Vec<Entry>> {
        let mut files = self.files(request).await?;
        select::check(&self.args.select, &paths(&files))?;
        files.retain(|file| select::is_wanted(&self.args.select, &file.path));
        Ok(files)
    }

    /// Whether errors only are to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.args.quiet
    }
}

fn paths(files: &[Entry]) -> Vec<EntryPath> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// Fails unless what is fetched of these files is all of a download of one file, which is what this option is for. One of many
/// shares pieces with its neighbours, which have to be kept somewhere.
fn check_one(option: &str, patterns: &[select::Pattern], paths: &[EntryPath]) -> Result<()> {
    let wanted = paths.iter().filter(|path| select::is_wanted(patterns, path)).count();
    let message = match (wanted, paths.len()) {
        (1, 1) => return Ok(()),
        (1, all) => format!("the file is one of {all}, and {option} is for a download of one"),
        (n, _) => format!("there are {n} files, and {option} is for one"),
    };
    Err(Error::new(ErrorKind::InvalidInput, message).with("option", option))
}

/// Whether it is known beforehand that this may lead to many files.
fn may_be_many(request: &Request) -> bool {
    let is_named_so = |name: String| args::is_torrent(Path::new(&name));
    request.container.is_some() || request.url.scheme() == "magnet" || request.url.file_name().is_some_and(is_named_so)
}

#[async_trait(?Send)]
impl Engine for Downloads<'_> {
    async fn start(&self, request: &Request) -> Result<Box<dyn Running>> {
        let args = self.args;
        let mut download = self.download(request);
        let is_to_be_one = !matches!(request.target, Target::Dir(_)) && may_be_many(request) && !args.no_follow;
        // Of a torrent that has to be fetched first the checksum is of that.
        let is_of_content = request.container.is_some() || request.is_only_a_name();
        let has_checksum = args.checksum.is_some() && is_of_content;
        if is_to_be_one || has_checksum || !args.select.is_empty() {
            let paths = paths(&self.files(request).await?);
            select::check(&args.select, &paths)?;
            if is_to_be_one {
                check_one("--output", &args.select, &paths)?;
            }
            if has_checksum {
                check_one("--checksum", &args.select, &paths)?;
            }
        }
        if let Some(bytes) = args.max_size {
            download = download.max_size(bytes);
        }
        if !args.select.is_empty() {
            let patterns = args.select.clone();
            download = download.select(move |path| select::is_wanted(&patterns, path));
        }
        let download = download.resume(!args.no_resume).keep_mtime(!args.no_mtime).on_exists(match args.on_exists {
            args::OnExists::Fail => OnExists::Fail,
            args::OnExists::Overwrite => OnExists::Overwrite,
            args::OnExists::Rename => OnExists::Rename,
            args::OnExists::Skip => OnExists::Skip,
            args::OnExists::Check => OnExists::Check,
        });
        let job = match &request.target {
            Target::Stdout => download.to_writer(tokio::io::stdout()),
            Target::File(path) => download.to_file(path),
            Target::Dir(folder) => download.to_dir(folder),
        };
        Ok(Box::new(job.start()))
    }
}

#[async_trait]
impl Running for Handle {
    fn events(&self) -> BoxStream<'static, Event> {
        Handle::events(self).boxed()
    }

    fn stop(&self) {
        Handle::stop(self);
    }

    async fn wait(&self) -> Result<Report> {
        Handle::wait(self).await
    }
}
