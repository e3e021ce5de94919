//! [`post`]: one request with JSON, and its answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::PATIENCE;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    head: String,
    body: String,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// # Panics
    ///
    /// If it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.head, self.body))
    }
}

/// Posts a body. An error means that nobody listens, or that the answer did not come.
pub(super) fn post(to: SocketAddr, path: &str, header: &str, body: &[u8]) -> io::Result<Answer> {
    ask(to, &format!("POST {path}"), header, body)
}

/// Asks for what is at a path.
pub(super) fn get(to: SocketAddr, path: &str) -> io::Result<Answer> {
    ask(to, &format!("GET {path}"), "", b"")
}

fn ask(to: SocketAddr, line: &str, header: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Of version 1.0, so that the end of the connection is that of the answer.
    let head = format!("{line} HTTP/1.0\r\nHost: {to}\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Answer { head: head.into(), body: body.into() })
}
