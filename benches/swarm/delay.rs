//! [`Delay`]: a long way to a peer.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep_until};

/// The most bytes on their way in one direction: more than any program has in flight here.
const IN_FLIGHT: usize = 256 << 20;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// Hands connections on to a peer, each byte as much later as half a round trip takes. It ends when this is dropped.
pub(crate) struct Delay {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Delay {
    pub(crate) fn start(peer: SocketAddr, rtt: Duration) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let far = TcpStream::connect(peer).await?;
                    for stream in [&near, &far] {
                        stream.set_nodelay(true)?;
                    }
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::try_join!(carry(near_in, far_out, rtt / 2), carry(far_in, near_out, rtt / 2))
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, late: Duration) -> io::Result<()> {
    let mut on_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut bytes = 0;
    loop {
        let due = on_way.front().map(|(at, _)| *at);
        let mut chunk = Vec::with_capacity(CHUNK);
        tokio::select! {
            biased;
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                if let Some((_, chunk)) = on_way.pop_front() {
                    bytes -= chunk.len();
                    to.write_all(&chunk).await?;
                }
            }
            read = from.read_buf(&mut chunk), if bytes < IN_FLIGHT => {
                if read? == 0 {
                    break;
                }
                bytes += chunk.len();
                on_way.push_back((Instant::now() + late, chunk));
            }
        }
    }
    for (at, chunk) in on_way {
        sleep_until(at).await;
        to.write_all(&chunk).await?;
    }
    to.shutdown().await
}
