//! What the tests share.

// Not every test uses all of it.
#![allow(dead_code)]

use bytes::Bytes;
use dlm_api::{Error, ErrorKind, Identity, Locator, Opened, RangeRequest, RangeSource, Result};
use dlm_fault_server::FaultServer;
use dlm_http::{Http, HttpConfig, HttpSource};
use futures::StreamExt;

/// The length of the usual file: more than one read, so that bodies come in several chunks.
pub(crate) const LEN: usize = 300_000;

pub(crate) fn source(server: &FaultServer) -> HttpSource {
    source_at(&server.url("/file.bin"), HttpConfig::new())
}

pub(crate) fn source_at(url: &str, config: HttpConfig) -> HttpSource {
    let locator: Locator = url.parse().expect("a URL");
    Http::with_config(config).and_then(|http| http.range_source(&locator)).expect("a source")
}

/// All bytes of an answer, or the error that ends them.
pub(crate) async fn read(opened: &mut Opened) -> Result<Bytes> {
    let mut all = Vec::new();
    while let Some(chunk) = opened.body.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all.into())
}

/// Asks for a range and reads it.
pub(crate) async fn fetch(source: &HttpSource, request: &RangeRequest) -> Result<(Opened, Bytes)> {
    let mut opened = source.open(request).await?;
    let bytes = read(&mut opened).await?;
    Ok((opened, bytes))
}

/// The error that a range ends with, wherever it comes.
pub(crate) async fn failure(source: &HttpSource, request: &RangeRequest) -> Error {
    match fetch(source, request).await {
        Ok((opened, bytes)) => panic!("{opened:?} brought {} bytes", bytes.len()),
        Err(error) => error,
    }
}

/// The kind of that error.
pub(crate) async fn failure_kind(source: &HttpSource, request: &RangeRequest) -> ErrorKind {
    failure(source, request).await.kind()
}

/// What the first request says the content is.
pub(crate) async fn identity(source: &HttpSource) -> Option<Identity> {
    fetch(source, &RangeRequest::whole()).await.expect("the whole").0.identities.first().cloned()
}

/// A header of each request so far.
pub(crate) fn headers(server: &FaultServer, name: &str) -> Vec<Option<String>> {
    server.requests().iter().map(|e| e.request.header(name).map(str::to_owned)).collect()
}
