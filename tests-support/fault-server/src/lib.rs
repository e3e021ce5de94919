//! An HTTP/1.1 server for tests that misbehaves as told.
//!
//! [`FaultServer::start`] takes a function from [`Request`] to [`Reply`], so a test can answer anything, bytes that are no
//! HTTP included. [`File`] is such a function for the usual case: content made from a seed, served as it should be, but for
//! the [`Fault`]s it was given. What was asked and answered is in the [`Log`].
//!
//! The server runs on a thread of its own, so tests with and without a runtime can use it, and stops when it is dropped. No
//! test needs to sleep: [`FaultServer::until`] waits for something in the log, and a [`Gate`] holds an answer back.
//!
//! ```
//! use dlm_fault_server::{Fault, FaultServer, File};
//!
//! let file = File::new(1, 1000).with(Fault::IgnoresRange);
//! let server = FaultServer::file(file);
//! assert!(server.url("/f").starts_with("http://127.0.0.1:"));
//! assert!(server.requests().is_empty());
//! ```

mod file;
mod reply;
mod serve;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

pub use file::{Fault, File};
pub use reply::{Ending, Framing, Gate, Reply};
pub use tls::{Authority, Validity};

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct FaultServer {
    address: SocketAddr,
    scheme: &'static str,
    log: watch::Sender<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target: path and query.
    pub path: String,
    /// The headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The body, if there was one of a given length.
    pub body: Vec<u8>,
    /// Which request to this server it is, from 0 on.
    pub number: usize,
    /// On which connection it came, from 0 on.
    pub connection: usize,
}

impl Request {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The range asked for, its end exclusive.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let (start, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = if last.is_empty() { None } else { Some(last.parse::<u64>().ok()?.checked_add(1)?) };
        Some((start.parse().ok()?, end))
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// The status of the answer; 0 for an answer that is no HTTP.
    pub status: u16,
    /// How many bytes of the body have been written to the socket.
    pub sent: u64,
    /// Whether the whole answer has been.
    pub is_done: bool,
}

/// What a server has seen.
#[derive(Clone, Default, Debug)]
pub struct Log {
    /// Every exchange, in the order of the requests.
    pub exchanges: Vec<Exchange>,
    /// How many connections were accepted.
    pub accepted: usize,
    /// How many of them are closed.
    pub closed: usize,
}

impl FaultServer {
    /// A server on a free port of 127.0.0.1 that answers every request by `handler`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(handler), None)
    }

    /// The same with TLS. The server is reached at 127.0.0.1 and by every name of it.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start_tls(
        config: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(handler), Some(config))
    }

    /// A server that has one file, at every path.
    pub fn file(file: File) -> Self {
        Self::start(move |request| file.reply(request))
    }

    fn run(handler: serve::Handler, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = watch::Sender::new(Log::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve::Server { handler, tls, log: log.clone() };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = server.run(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, scheme, log, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL of a path at 127.0.0.1.
    pub fn url(&self, path: &str) -> String {
        self.url_at("127.0.0.1", path)
    }

    /// The URL of a path at another name of this machine, such as `localhost` or `127.0.0.2`.
    pub fn url_at(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    /// The exchanges so far.
    pub fn requests(&self) -> Vec<Exchange> {
        self.log.borrow().exchanges.clone()
    }

    /// Waits until the log is as wanted.
    pub async fn until(&self, wanted: impl FnMut(&Log) -> bool) {
        // It can't be closed while `self` holds the sender.
        let _ = self.log.subscribe().wait_for(wanted).await;
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
