//! [`Proxy`]: a way to a server that can be cut.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How much is handed on at once.
const CHUNK: usize = 64 * 1024;

/// In how many steps a second's bytes come where there is a rate.
const STEPS: u32 = 200;

/// Hands every connection on to a server, until it is cut: by hand, or after so many bytes.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// Cut after this many bytes from the server, all connections together.
    limit: u64,
    /// How many bytes a second each connection brings.
    rate: Option<u32>,
    delivered: AtomicU64,
    connections: AtomicU64,
    cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A way to `server` that is cut by hand only.
    pub fn new(server: SocketAddr) -> Self {
        Self::cut_after(server, u64::MAX)
    }

    /// A way to `server` on which each connection brings so many bytes a second, evenly: what is sent waits here, and not in
    /// the client's buffers. It is cut by hand only.
    pub fn paced(server: SocketAddr, rate: u32) -> Self {
        Self::start(server, u64::MAX, Some(rate))
    }

    /// A way to `server` that is cut as soon as `limit` bytes came from there, heads and bodies of all connections.
    /// Not one byte more gets through.
    ///
    /// # Panics
    ///
    /// If no port can be had.
    pub fn cut_after(server: SocketAddr, limit: u64) -> Self {
        Self::start(server, limit, None)
    }

    fn start(server: SocketAddr, limit: u64, rate: Option<u32>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            limit,
            rate,
            delivered: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a path, which does not begin with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// How many bytes came through from the server.
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(SeqCst)
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(SeqCst)
    }

    /// Cuts it: connections break off, and new ones are refused.
    pub fn cut(&mut self) {
        self.shared.cut();
        // Wakes the acceptor, which then closes its port. If that fails the port is closed already.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.cut.load(SeqCst) {
                return;
            }
            // A client that went away again, or a server that is not there, is the same as a connection that breaks.
            let Ok(client) = client else { continue };
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            self.connections.fetch_add(1, SeqCst);
            let _ = self.hand_on(client, server);
        }
    }

    fn hand_on(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.extend([client.try_clone()?, server.try_clone()?]);
            if self.cut.load(SeqCst) {
                return Self::close(&streams);
            }
        }
        thread::spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let shared = self.clone();
        thread::spawn(move || {
            let _ = shared.deliver(server, &client);
            let _ = client.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    fn deliver(&self, mut server: TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let chunk = self.rate.map_or(CHUNK, |rate| (rate / STEPS) as usize);
        let mut buffer = vec![0; chunk];
        loop {
            let n = server.read(&mut buffer)?;
            if let Some(rate) = self.rate {
                thread::sleep(Duration::from_secs_f64(n as f64 / f64::from(rate)));
            }
            if n == 0 {
                return Ok(());
            }
            // Taken before it is sent, so that two connections can't pass the limit together.
            let before = self.delivered.fetch_add(n as u64, SeqCst);
            let left = self.limit.saturating_sub(before).min(n as u64);
            if left < n as u64 {
                self.delivered.fetch_min(self.limit, SeqCst);
            }
            client.write_all(&buffer[..left as usize])?;
            if before + n as u64 >= self.limit {
                self.cut();
                // The acceptor sits in `accept`: this wakes it, so that its port is closed too.
                let _ = client.local_addr().and_then(TcpStream::connect);
                return Ok(());
            }
        }
    }

    fn cut(&self) {
        self.cut.store(true, SeqCst);
        let _ = Self::close(&self.streams.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn close(streams: &[TcpStream]) -> io::Result<()> {
        // Those that are closed already say so; that is what was wanted.
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        Ok(())
    }
}
