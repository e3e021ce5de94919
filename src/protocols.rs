//! [`Protocols`]: every protocol that is compiled in.

use dlm_api::{Client, ClientBuilder, Result};

/// The configuration of every protocol that is compiled in.
///
/// ```
/// # fn main() -> dlm_api::Result<()> {
/// let client = dlm::Protocols::default().client()?.build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Protocols {
    /// BitTorrent.
    #[cfg(feature = "bittorrent")]
    pub bittorrent: dlm_bittorrent::BitTorrentConfig,
    /// HTTP and HTTPS.
    #[cfg(feature = "http")]
    pub http: dlm_http::HttpConfig,
}

impl Protocols {
    /// A client that has them all.
    ///
    /// # Errors
    ///
    /// As of each protocol, for a configuration that makes no sense.
    pub fn client(self) -> Result<ClientBuilder> {
        let client = Client::builder();
        #[cfg(feature = "http")]
        let client = client.protocol(dlm_http::Http::with_config(self.http)?);
        #[cfg(feature = "bittorrent")]
        let client = client.protocol(dlm_bittorrent::BitTorrent::with_config(self.bittorrent)?);
        Ok(client)
    }
}
