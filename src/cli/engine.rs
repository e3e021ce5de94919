//! The downloads of `dlm-api`, as the command line drives them.

use async_trait::async_trait;
use dlm_api::{Client, Event, Handle, OnExists, Report, Result};
use futures::stream::{BoxStream, StreamExt};

use super::args::{self, GetArgs};
use super::get::{Engine, Running};
use super::plan::{Request, Target};
use crate::Protocols;

/// A client, and what the options say of each download.
pub(super) struct Downloads<'a> {
    client: Client,
    args: &'a GetArgs,
}

/// The client that the options ask for.
pub(super) fn client(args: &GetArgs) -> Result<Downloads<'_>> {
    let mut client = protocols(args).client()?;
    if let Some(rate) = args.limit {
        client = client.rate_limit(rate);
    }
    if let Some(connections) = args.connections {
        client = client.connections_per_origin(usize::from(connections) * usize::from(args.jobs));
    }
    Ok(Downloads { client: client.build(), args })
}

#[cfg(feature = "http")]
fn protocols(args: &GetArgs) -> Protocols {
    let mut protocols = Protocols::default();
    let mut http = protocols.http.with_insecure(args.insecure);
    for header in &args.headers {
        http = http.with_header(header.name(), header.value());
    }
    if let Some(timeout) = args.timeout {
        http = http.with_connect_timeout(timeout).with_head_timeout(timeout).with_read_timeout(timeout);
    }
    if let Some(file) = &args.ca_certificate {
        http = http.with_ca_certificate(file);
    }
    protocols.http = http;
    protocols
}

#[cfg(not(feature = "http"))]
fn protocols(_: &GetArgs) -> Protocols {
    Protocols::default()
}

impl Engine for Downloads<'_> {
    fn start(&self, request: &Request) -> Result<Box<dyn Running>> {
        let args = self.args;
        let mut download = self.client.download(request.url.url());
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
        if let Some(bytes) = args.max_size {
            download = download.max_size(bytes);
        }
        let download = download.resume(!args.no_resume).keep_mtime(!args.no_mtime).on_exists(match args.on_exists {
            args::OnExists::Fail => OnExists::Fail,
            args::OnExists::Overwrite => OnExists::Overwrite,
            args::OnExists::Rename => OnExists::Rename,
            args::OnExists::Skip => OnExists::Skip,
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
