//! [`Nginx`]: the real one, with a folder, a configuration and a log of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::cert::Cert;
use crate::content::Content;
use crate::wait_for;

/// Another program may take a free port between our asking for one and nginx's binding it.
const ATTEMPTS: usize = 10;

/// A path that tells our nginx from a stranger who got its port. It is not logged.
const READY: &str = "/.ready";

/// A path that tells how many connections there are. It is not logged.
const STATUS: &str = "/.status";

/// With a limited rate, nginx sends this many times a second; by itself it sends a second's worth at once.
const STEPS: u64 = 20;

/// A running nginx. It is killed when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    dir: TempDir,
    root: PathBuf,
    port: u16,
    tls_port: u16,
}

/// What nginx shall be like.
#[derive(Clone, Debug, Default)]
pub struct NginxBuilder {
    root: Option<PathBuf>,
    locations: Vec<Location>,
    tls: Option<Cert>,
}

/// A part of the server that behaves in its own way. It serves the same files: with `/slow/`, the file `f` is `/slow/f`
/// as well.
#[derive(Clone, Debug)]
pub struct Location {
    prefix: String,
    directives: Vec<String>,
    users: Vec<(String, String)>,
}

/// A request that nginx has answered, as it logged it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path and query, as they were sent.
    pub uri: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes sent, with the head.
    pub bytes_sent: u64,
    /// Bytes sent, without the head.
    pub body_bytes_sent: u64,
    /// The header `Range`; empty if there was none.
    pub range: String,
    /// The header `If-Range`; empty if there was none.
    pub if_range: String,
    /// The header `Accept-Encoding`; empty if there was none.
    pub accept_encoding: String,
    /// The header `User-Agent`; empty if there was none.
    pub user_agent: String,
    /// The number of the connection: the same for requests that shared one.
    pub connection: u64,
    /// The user who logged in; empty if nobody did.
    pub user: String,
    /// `OK`, or empty if the client went away before the end.
    pub completion: String,
    /// The protocol: `HTTP/1.1`.
    pub protocol: String,
}

impl Location {
    /// The part below `prefix`, which begins and ends with `/`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), directives: Vec::new(), users: Vec::new() }
    }

    /// At most this many bytes a second on each connection.
    #[must_use]
    pub fn limit_rate(self, bytes_per_second: u64) -> Self {
        self.steps(bytes_per_second).directive(format!("limit_rate {bytes_per_second}"))
    }

    /// As [`limit_rate`](Self::limit_rate), for requests that come while this file exists.
    #[must_use]
    pub fn limit_rate_while(self, file: &Path, bytes_per_second: u64) -> Self {
        let file = file.display();
        self.steps(bytes_per_second)
            .directive(format!("set $rate 0; if (-f \"{file}\") {{ set $rate {bytes_per_second}; }} limit_rate $rate"))
    }

    fn steps(self, bytes_per_second: u64) -> Self {
        self.directive(format!("sendfile_max_chunk {}", (bytes_per_second / STEPS).max(1)))
    }

    /// Answers every request with the whole file, ranges or not.
    #[must_use]
    pub fn without_ranges(self) -> Self {
        self.directive("max_ranges 0")
    }

    /// Only for this user.
    #[must_use]
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.users.push((user.to_owned(), password.to_owned()));
        self
    }

    /// Any directive of nginx, without the semicolon at its end.
    #[must_use]
    pub fn directive(mut self, directive: impl Into<String>) -> Self {
        self.directives.push(directive.into());
        self
    }
}

impl NginxBuilder {
    /// Serves this folder. Without it, nginx has a new, empty one.
    #[must_use]
    pub fn root(mut self, dir: impl Into<PathBuf>) -> Self {
        self.root = Some(dir.into());
        self
    }

    /// Adds a part that behaves in its own way.
    #[must_use]
    pub fn location(mut self, location: Location) -> Self {
        self.locations.push(location);
        self
    }

    /// Speaks TLS too, on a port of its own.
    #[must_use]
    pub fn tls(mut self, cert: Cert) -> Self {
        self.tls = Some(cert);
        self
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If nginx is not installed, or refuses its configuration. The message says what to do.
    pub fn start(self) -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let root = self.root.clone().unwrap_or_else(|| dir.path().join("www"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(dir.path().join("tmp")).unwrap();
        let nonce = format!("dlm {} {}", std::process::id(), dir.path().display());
        for _ in 0..ATTEMPTS {
            let (port, tls_port) = free_ports();
            let config = self.config(dir.path(), &root, port, tls_port, &nonce);
            fs::write(dir.path().join("nginx.conf"), config).unwrap();
            let mut child = spawn(dir.path());
            match wait_until_ready(&mut child, dir.path(), port, &nonce) {
                Ok(()) => return Nginx { child, dir, root, port, tls_port },
                Err(log) => assert!(log.contains("Address already in use"), "nginx did not start:\n{log}"),
            }
        }
        panic!("no free port after {ATTEMPTS} attempts");
    }

    fn config(&self, dir: &Path, root: &Path, port: u16, tls_port: u16, nonce: &str) -> String {
        let (dir_text, root_text) = (dir.display(), root.display());
        let mut servers = format!("listen 127.0.0.1:{port} backlog=1024;\n");
        if let Some(Cert { cert, key }) = &self.tls {
            let (cert, key) = (cert.display(), key.display());
            let _ = write!(
                servers,
                "listen 127.0.0.1:{tls_port} ssl backlog=1024;\n\
                 ssl_certificate \"{cert}\";\nssl_certificate_key \"{key}\";\n"
            );
        }
        let mut locations = String::new();
        for (index, location) in self.locations.iter().enumerate() {
            let _ = writeln!(locations, "location {} {{\nalias \"{root_text}/\";", location.prefix);
            if !location.users.is_empty() {
                let passwd = dir.join(format!("passwd{index}"));
                let lines: String = location.users.iter().map(|(u, p)| format!("{u}:{{PLAIN}}{p}\n")).collect();
                fs::write(&passwd, lines).unwrap();
                let _ = writeln!(locations, "auth_basic dlm;\nauth_basic_user_file \"{}\";", passwd.display());
            }
            location.directives.iter().for_each(|directive| {
                let _ = writeln!(locations, "{directive};");
            });
            locations.push_str("}\n");
        }
        // One process: there is no worker to be left behind when it is killed, and no user to change to.
        format!(
            r#"daemon off;
master_process off;
pid "{dir_text}/nginx.pid";
error_log "{dir_text}/error.log" notice;
events {{ worker_connections 4096; }}
http {{
client_body_temp_path "{dir_text}/tmp";
proxy_temp_path "{dir_text}/tmp";
fastcgi_temp_path "{dir_text}/tmp";
uwsgi_temp_path "{dir_text}/tmp";
scgi_temp_path "{dir_text}/tmp";
default_type application/octet-stream;
sendfile on;
tcp_nodelay on;
keepalive_requests 1000000;
log_format json escape=json '{{"method":"$request_method","uri":"$request_uri","status":$status,'
'"bytes_sent":$bytes_sent,"body_bytes_sent":$body_bytes_sent,"range":"$http_range","if_range":"$http_if_range",'
'"accept_encoding":"$http_accept_encoding","user_agent":"$http_user_agent","connection":$connection,'
'"user":"$remote_user","completion":"$request_completion","protocol":"$server_protocol"}}';
access_log "{dir_text}/access.log" json;
server {{
{servers}root "{root_text}";
location = {READY} {{ access_log off; return 200 "{nonce}"; }}
location = {STATUS} {{ access_log off; stub_status; }}
{locations}}}
}}
"#
        )
    }
}

impl Nginx {
    /// Says what nginx shall be like.
    pub fn builder() -> NginxBuilder {
        NginxBuilder::default()
    }

    /// A plain one.
    ///
    /// # Panics
    ///
    /// As [`NginxBuilder::start`].
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// The folder that it serves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file into its folder, and says its URL.
    pub fn put(&self, name: &str, content: &Content) -> String {
        content.write_file(self.root.join(name)).unwrap();
        self.url(name)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of a path, which does not begin with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The URL of a path over TLS, which does not begin with `/`.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.tls_port)
    }

    /// The requests that are answered so far, in the order in which they were. A request is logged just after its last
    /// byte was sent, so the client can be earlier: see [`wait_for_requests`](Self::wait_for_requests).
    pub fn requests(&self) -> Vec<Request> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        // The last line may be half written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        whole.lines().map(parse).collect()
    }

    /// The requests that are answered, once there are at least `n`.
    ///
    /// # Panics
    ///
    /// If there are not, for too long.
    pub fn wait_for_requests(&self, n: usize) -> Vec<Request> {
        wait_for("requests in nginx's log", || Some(self.requests()).filter(|requests| requests.len() >= n))
    }

    /// All requests, once nobody is connected any more: those that the client broke off are among them, with the bytes
    /// that were sent.
    ///
    /// # Panics
    ///
    /// If somebody stays for too long.
    pub fn all_requests(&self) -> Vec<Request> {
        wait_for("all connections to end", || {
            let status = ask(self.addr(), STATUS).ok()?;
            status.starts_with("Active connections: 1 ").then_some(())
        });
        self.requests()
    }

    /// Ends it: what it serves breaks off, and nobody answers any more.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two ports that are free now.
fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (a, b) = (bind(), bind());
    (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())
}

fn spawn(dir: &Path) -> Child {
    // Debian puts it where an ordinary user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let program = std::env::split_paths(&path).map(|dir| dir.join("nginx")).find(|file| file.is_file());
    let Some(program) = program else {
        panic!("these tests need the real nginx. On Debian and Ubuntu: sudo apt-get install nginx-light");
    };
    let mut command = Command::new(program);
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What nginx says went wrong, if it ended before it was ready.
fn wait_until_ready(child: &mut Child, dir: &Path, port: u16, nonce: &str) -> Result<(), String> {
    wait_for("nginx to answer", || {
        if is_ours((Ipv4Addr::LOCALHOST, port).into(), nonce) {
            return Some(Ok(()));
        }
        let ended = child.try_wait().unwrap().is_some();
        ended.then(|| Err(fs::read_to_string(dir.join("error.log")).unwrap_or_default()))
    })
}

fn is_ours(addr: SocketAddr, nonce: &str) -> bool {
    ask(addr, READY).is_ok_and(|body| body == nonce)
}

/// The body of an answer.
fn ask(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = BufReader::new(stream.take(4096));
    while answer.read_line(&mut String::new())? > 2 {}
    let mut body = String::new();
    answer.read_to_string(&mut body)?;
    Ok(body)
}
