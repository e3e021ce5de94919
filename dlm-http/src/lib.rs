//! HTTP and HTTPS sources for [dlm](https://docs.rs/dlm-api).
//!
//! Start with [`Http`]: it makes an [`HttpSource`] of a URL, which delivers any range of it.
//!
//! ```
//! # async fn example() -> dlm_api::Result<()> {
//! use dlm_api::{RangeRequest, RangeSource};
//! use dlm_http::Http;
//! use futures::StreamExt;
//!
//! let http = Http::new()?;
//! let source = http.range_source(&"https://example.com/file.iso".parse()?)?;
//! let mut opened = source.open(&RangeRequest::new(0, Some(1024))).await?;
//! while let Some(chunk) = opened.body.next().await {
//!     println!("{} bytes", chunk?.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What can be chosen is in [`HttpConfig`]. [`HttpClient`] is the layer below: requests over pooled connections, for protocols
//! that stand on HTTP without being plain downloads. [`wire`] parses headers, and does no I/O.
//!
//! HTTP/1.1 is spoken, on purpose: a large file gains nothing from streams that share one connection. Connections run on the
//! tokio runtime that they are used on.

mod answer;
mod body;
mod client;
mod config;
mod connect;
mod content;
mod error;
mod headers;
mod local;
mod pool;
mod protocol;
mod redirect;
mod session;
mod source;
mod tls;
pub mod wire;

pub use body::Body;
pub use client::HttpClient;
pub use config::{Credentials, HttpConfig};
pub use local::{has_local_host, is_local};
pub use protocol::Http;
pub use source::HttpSource;
