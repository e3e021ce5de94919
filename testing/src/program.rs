//! [`Dlm`]: the program, run as a user runs it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, wait_for};

/// A command line of the program.
#[derive(Debug)]
pub struct Dlm {
    command: Command,
    input: Option<Vec<u8>>,
    home: TempDir,
}

/// The program while it runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The system has given its number to somebody else, perhaps.
    reaped: bool,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    peak_memory: JoinHandle<u64>,
    _home: TempDir,
}

/// What the program tells with `--json`, as it comes. The program never waits for whoever reads it here.
#[derive(Debug)]
pub struct Events(Receiver<Value>);

/// What the program did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// The most memory that it had, in bytes. What the caller had when it started it is the least that is shown.
    pub peak_memory: u64,
}

impl Dlm {
    /// The program at this path: `env!("CARGO_BIN_EXE_dlm")`. It sees nothing of the caller's environment that could
    /// change what it does.
    ///
    /// # Panics
    ///
    /// If there is no temporary folder to be had.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.env_clear().env("HOME", home.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Self { command, input: None, home }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it this on standard input. Otherwise that is empty.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// If it can't be started, or does not end.
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn start(self) -> Process {
        let (mut process, stdout) = self.spawn();
        process.stdout = Some(collect(stdout));
        process
    }

    /// Starts it, and hands on the events that it prints.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn watch(self) -> (Process, Events) {
        let (process, stdout) = self.spawn();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            // A last line without an end is what a killed program leaves.
            while lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                // Nobody may want them any more, but the program must not wait.
                let _ = send.send(parse(&line));
                line.clear();
            }
        });
        (process, Events(receive))
    }

    /// Starts it, and leaves its standard output to the caller.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    pub fn spawn(mut self) -> (Process, ChildStdout) {
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        if let (Some(input), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // It may end without reading all of it.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().map(collect);
        let peak_memory = watch_memory(child.id());
        (Process { child, reaped: false, stdout: None, stderr, peak_memory, _home: self.home }, stdout)
    }
}

impl Process {
    /// Kills it: SIGKILL, as when the system runs out of memory. It can do nothing about that.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Asks it to end, as a shutdown of the system does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // It is not reaped before `wait` or `drop`, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn wait(mut self) -> Finished {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let id = Pid::from_child(&self.child);
        wait_for("the program to end", || waitid(WaitId::Pid(id), ended).unwrap());
        let status = self.child.wait().unwrap();
        self.reaped = true;
        let text = |reader: Option<JoinHandle<Vec<u8>>>| reader.map(|r| r.join().unwrap()).unwrap_or_default();
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Finished {
            code: status.code(),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            peak_memory: std::mem::replace(&mut self.peak_memory, thread::spawn(|| 0)).join().unwrap(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

impl Iterator for Events {
    type Item = Value;

    /// The next event; `None` when the program has ended.
    ///
    /// # Panics
    ///
    /// If nothing comes for too long.
    fn next(&mut self) -> Option<Value> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(event) => Some(event),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} for an event"),
        }
    }
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON, a value a line.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn json(&self) -> Vec<Value> {
        self.text().lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Reads all of it at once, so that the program never waits for us.
fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        // What was read before an error is what there is.
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// How often the memory of a program is looked at. Its peak is kept by the kernel, so only what comes in the last moment is missed.
const LOOK: Duration = Duration::from_millis(10);

/// The peak of the resident memory of a process in bytes, once it has ended. What `wait4` tells can't be used: it counts the
/// memory of the process that started it, too, as a copy of that is what it was at first.
fn watch_memory(id: u32) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut peak = 0;
        // One that has ended and was not waited for has no memory.
        while let Some(now) = peak_memory(id) {
            peak = now;
            thread::sleep(LOOK);
        }
        peak
    })
}

fn peak_memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
