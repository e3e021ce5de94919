//! A protocol of one's own: `file:` URLs, as one more mirror beside HTTP:
//! `cargo run --example custom_source -- FILE file:///somewhere/a http://mirror.example/a`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dlm_api::{
    Client, Container, Error, ErrorKind, Locator, Opened, Protocol, RangeRequest, RangeSource, Ranged, Ranges,
    Registry, Resolved, Result,
};
use dlm_http::Http;
use futures::{StreamExt, stream};

/// How much is read at once, in bytes.
const CHUNK: u64 = 256 << 10;

#[derive(Debug)]
struct FileProtocol;

#[async_trait]
impl Protocol for FileProtocol {
    fn schemes(&self) -> &[&str] {
        &["file"]
    }

    async fn open(&self, locator: &Locator) -> Result<Resolved> {
        let bad =
            || Error::new(ErrorKind::InvalidInput, "not the URL of a file on this machine").with_url(locator.url());
        let path = locator.url().to_file_path().map_err(|()| bad())?;
        let file =
            File::open(path).map_err(|e| Error::new(ErrorKind::NotFound, "cannot open the file").with_source(e))?;
        Ok(Resolved::Source(Arc::new(Ranged::new(FileSource { locator: locator.clone(), file: Arc::new(file) }))))
    }

    fn containers(&self) -> &[Container] {
        &[]
    }

    async fn open_container(&self, _: Bytes, _: &Locator, _: &Registry) -> Result<Resolved> {
        Err(Error::new(ErrorKind::Unsupported, "files are only files"))
    }
}

#[derive(Debug)]
struct FileSource {
    locator: Locator,
    file: Arc<File>,
}

#[async_trait]
impl RangeSource for FileSource {
    async fn open(&self, request: &RangeRequest) -> Result<Opened> {
        let read_failed = |e| Error::network("cannot read the file", e);
        let len = self.file.metadata().map_err(read_failed)?.len();
        let end = request.end.unwrap_or(len).min(len);
        let file = self.file.clone();
        // A few reads of a local file block for as long as a write to one, so they may be done right here.
        let chunks = stream::iter((request.start..end).step_by(CHUNK as usize)).map(move |at| {
            let mut chunk = vec![0; (end - at).min(CHUNK) as usize];
            file.read_exact_at(&mut chunk, at).map_err(read_failed)?;
            Ok(Bytes::from(chunk))
        });
        let mut opened = Opened::new(request.start, chunks.boxed());
        opened.end = Some(end);
        opened.len = Some(len);
        opened.ranges = Ranges::Yes;
        Ok(opened)
    }

    fn locator(&self) -> &Locator {
        &self.locator
    }

    fn origin(&self) -> String {
        "file:".to_owned()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(target), Some(url)) = (args.next(), args.next()) else { panic!("usage: custom_source FILE URL...") };

    let client = Client::builder().protocol(Http::new()?).protocol(FileProtocol).build();
    let download = args.fold(client.download(url), |download, mirror| download.mirror(mirror));
    let report = download.to_file(target).await?;

    for source in &report.sources {
        println!("{} bytes from {}", source.transferred, source.source);
    }
    Ok(())
}
