//! From a URL to a connected stream: DNS, TCP (Happy Eyeballs, RFC 8305) and TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use dlm_api::{Error, ErrorKind, Result};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::local::is_local;
use crate::tls::{self, Tls};

/// How long one address is tried alone before the next one is tried beside it: the recommended delay of RFC 8305 section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of one name are tried. A name with hundreds of dead addresses must not cost as many sockets.
const MAX_ADDRESSES: usize = 16;

/// How much is read from the socket below TLS at once. By itself rustls reads one record of 16 KiB a system call; four of them
/// cost less, though they are copied once more. Larger buffers gained nothing that could be measured.
const TLS_BUFFER: usize = 64 * 1024;

/// A connected stream, with or without TLS.
pub(crate) type Stream = Pin<Box<dyn Transport>>;

pub(crate) trait Transport: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// Connects to the origin of `url`, to a local address only if it may. Returns the stream and how long TCP took: one round trip.
pub(crate) async fn connect(url: &Url, tls: &Tls, allow_local: bool) -> Result<(Stream, Duration)> {
    let host = url.host().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the URL has no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the URL has no port"))?;
    let mut addresses = resolve(&host, port).await?;
    if !allow_local {
        // Here, where it is resolved for the connection: a name that was looked at before may lead elsewhere now.
        addresses.retain(|address| !is_local(address.ip()));
        if addresses.is_empty() {
            return Err(Error::new(ErrorKind::Denied, "a stranger names an address of this machine or beside it"));
        }
    }
    let (tcp, rtt) = dial(interleave(addresses)).await.map_err(|e| Error::network("cannot connect", e))?;
    // Requests are written whole, so waiting for more to send only delays them.
    tcp.set_nodelay(true).map_err(|e| Error::network("cannot set up the connection", e))?;
    if url.scheme() != "https" {
        return Ok((Box::pin(tcp), rtt));
    }
    let name = tls::server_name(&host)?;
    let tcp = BufReader::with_capacity(TLS_BUFFER, tcp);
    let stream = tls.connector()?.connect(name, tcp).await.map_err(tls::handshake_error)?;
    Ok((Box::pin(Filling(stream)), rtt))
}

async fn resolve(host: &Host<&str>, port: u16) -> Result<Vec<SocketAddr>> {
    let name = match host {
        Host::Ipv4(address) => return Ok(vec![SocketAddr::new((*address).into(), port)]),
        Host::Ipv6(address) => return Ok(vec![SocketAddr::new((*address).into(), port)]),
        Host::Domain(name) => *name,
    };
    let failed = |e| Error::network("cannot resolve the host's name", e);
    let addresses: Vec<_> = tokio::net::lookup_host((name, port)).await.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// Alternates between the families, beginning with the family that the resolver prefers (RFC 8305 section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        mixed.extend(pair.into_iter().flatten());
    }
    mixed.truncate(MAX_ADDRESSES);
    mixed
}

/// The first connection that comes about. The next address is tried when one has failed, or has taken a while; those that
/// were slower are dropped, and so closed.
async fn dial(addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, Duration)> {
    let attempt = |address: SocketAddr| async move {
        let start = Instant::now();
        TcpStream::connect(address).await.map(|tcp| (tcp, start.elapsed()))
    };
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        match waiting.next() {
            Some(address) => running.push(attempt(address)),
            None if running.is_empty() => return Err(last_error),
            None => {}
        }
        let finished = if waiting.len() > 0 {
            match tokio::time::timeout(ATTEMPT_DELAY, running.next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            }
        } else {
            running.next().await
        };
        match finished {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(error)) => last_error = error,
            None => {}
        }
    }
}

/// Reads until the buffer is full or nothing is there at once.
///
/// A TLS stream hands out one record of at most 16 KiB a read. Gathering them gives what stands above one large chunk in
/// place of many small ones.
struct Filling<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for Filling<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        let mut filled = buf.filled().len();
        if filled == before {
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0 {
            // An error or the end comes again at the next read; what was read before it is not lost for it.
            match Pin::new(&mut self.0).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() > filled => filled = buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Filling<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_alternate() {
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(address).to_vec();
        let mixed: Vec<String> = interleave(given).iter().map(ToString::to_string).collect();
        assert_eq!(mixed, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
    }

    #[test]
    fn a_name_with_many_addresses_is_cut() {
        let given = (0..1000).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        assert_eq!(interleave(given).len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn a_dead_address_is_stepped_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // A port that was free a moment ago refuses at once.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (tcp, _) = dial(vec![dead, good]).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), good);
        assert_eq!(dial(vec![dead]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn filling_gathers_what_is_there() {
        /// Gives one byte a read, then an error.
        struct Drops(u8);
        impl AsyncRead for Drops {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                if self.0 == 0 {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                self.0 -= 1;
                buf.put_slice(&[self.0]);
                Poll::Ready(Ok(()))
            }
        }
        let mut stream = Filling(Drops(3));
        let mut buf = [0; 8];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 3);
        assert_eq!(stream.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
