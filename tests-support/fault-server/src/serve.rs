//! Connections: reading requests, writing replies.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{Ending, Exchange, Framing, Log, Reply, Request};

/// How much of a body is written at once, so that the log tells progress.
const WRITE: usize = 64 * 1024;

/// The longest line and the most headers of a request: tests send no larger ones.
const MAX_LINE: u64 = 64 * 1024;
const MAX_HEADERS: usize = 1000;

pub(crate) type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) handler: Handler,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) log: watch::Sender<Log>,
}

impl Server {
    pub(crate) async fn run(self, listener: std::net::TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let connection = self.log.borrow().accepted;
            self.log.send_modify(|log| log.accepted += 1);
            let server = self.clone();
            connections.spawn(async move {
                // An error is the other side's going away, which is a test's affair.
                let _ = server.connection(tcp, connection).await;
                server.log.send_modify(|log| log.closed += 1);
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn connection(&self, tcp: TcpStream, connection: usize) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let ending = match &self.tls {
            None => {
                let mut stream = BufReader::new(tcp);
                let ending = self.exchanges(&mut stream, connection).await?;
                let tcp = stream.into_inner();
                if ending == Ending::Reset {
                    tcp.set_zero_linger()?;
                }
                ending
            }
            Some(tls) => {
                let tls = TlsAcceptor::from(tls.clone()).accept(tcp).await?;
                let mut stream = BufReader::new(tls);
                let ending = self.exchanges(&mut stream, connection).await?;
                let mut tls = stream.into_inner();
                match ending {
                    Ending::Reset => tls.get_ref().0.set_zero_linger()?,
                    _ => tls.shutdown().await?,
                }
                ending
            }
        };
        debug_assert_ne!(ending, Ending::KeepAlive);
        Ok(())
    }

    /// Serves until the other side or an answer ends it; returns how.
    async fn exchanges<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        connection: usize,
    ) -> io::Result<Ending> {
        while let Some(mut request) = read(stream).await? {
            request.connection = connection;
            request.number = self.log.borrow().exchanges.len();
            let number = request.number;
            let reply = (self.handler)(&request);
            let is_head = request.method == "HEAD";
            let exchange = Exchange { request, status: reply.status, sent: 0, is_done: false };
            self.log.send_modify(|log| log.exchanges.push(exchange));
            self.write(stream, &reply, is_head, number).await?;
            self.log.send_modify(|log| log.exchanges[number].is_done = true);
            match reply.ending {
                Ending::KeepAlive if reply.framing == Framing::Close => return Ok(Ending::Close),
                Ending::KeepAlive => {}
                Ending::Stall => {
                    // Until the other side goes away.
                    let _ = tokio::io::copy_buf(stream, &mut tokio::io::sink()).await;
                    return Ok(Ending::Close);
                }
                ending => {
                    poll_fn(|cx| Pin::new(stream.get_mut()).poll_flush(cx)).await?;
                    return Ok(ending);
                }
            }
        }
        Ok(Ending::Close)
    }

    async fn write<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        reply: &Reply,
        is_head: bool,
        number: usize,
    ) -> io::Result<()> {
        if let Some((0, gate)) = &reply.gate {
            gate.pass().await;
        }
        stream.write_all(reply.head().as_bytes()).await?;
        if is_head {
            return stream.flush().await;
        }
        let is_chunked = matches!(reply.framing, Framing::Chunked | Framing::UnfinishedChunks);
        let cut = reply.cut.map_or(reply.body.len(), |cut| reply.body.len().min(cut as usize));
        let mut at = 0;
        while at < cut {
            let mut end = cut.min(at + WRITE);
            if let Some((gate_at, gate)) = &reply.gate {
                let gate_at = *gate_at as usize;
                if gate_at == at {
                    stream.flush().await?;
                    gate.pass().await;
                } else if at < gate_at {
                    end = end.min(gate_at);
                }
            }
            let piece = &reply.body[at..end];
            if is_chunked {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            }
            stream.write_all(piece).await?;
            if is_chunked {
                stream.write_all(b"\r\n").await?;
            }
            at = end;
            self.log.send_modify(|log| log.exchanges[number].sent = at as u64);
        }
        if let Some((at, gate)) = &reply.gate
            && *at == cut as u64
        {
            stream.flush().await?;
            gate.pass().await;
        }
        if reply.framing == Framing::Chunked && cut == reply.body.len() {
            stream.write_all(b"0\r\n\r\n").await?;
        }
        stream.flush().await
    }
}

/// The next request; `None` where the other side has closed the connection.
async fn read<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<Option<Request>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    while let Some(line) = line(stream).await?.filter(|line| !line.is_empty()) {
        if headers.len() == MAX_HEADERS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many headers"));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    let mut request = Request { method, path, headers, body: Vec::new(), number: 0, connection: 0 };
    if let Some(len) = request.header("content-length").and_then(|len| len.parse().ok()) {
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        request.body = body;
    }
    Ok(Some(request))
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let n = stream.take(MAX_LINE).read_line(&mut line).await?;
    Ok((n > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}
