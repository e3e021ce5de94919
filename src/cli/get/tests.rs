use super::*;
use crate::cli::plan::Target;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore};

/// What a download of the fake engine comes to: its URL's scheme says it.
fn fate(scheme: &str) -> Option<Result<Report>> {
    let error = |kind| Some(Err(Error::new(kind, "as told")));
    match scheme {
        "ok" => Some(Ok(Report::default())),
        "corrupt" => error(ErrorKind::Corrupt),
        "lost" => error(ErrorKind::NotFound),
        _ => None,
    }
}

#[derive(Default)]
struct Fake {
    started: Mutex<Vec<String>>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// Each download ends when it gets one of these.
    permits: Option<Arc<Semaphore>>,
    /// Gets a permit for each download that has begun.
    begun: Begun,
}

struct Begun(Semaphore);

impl Default for Begun {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Begun {
    async fn next(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

struct FakeRun {
    fate: Option<Result<Report>>,
    permits: Option<Arc<Semaphore>>,
    stop: Notify,
    running: Arc<AtomicUsize>,
}

#[async_trait(?Send)]
impl Engine for Fake {
    async fn start(&self, request: &Request) -> Result<Box<dyn Running>> {
        self.started.lock().unwrap().push(request.url.to_string());
        if request.url.scheme() == "asking" {
            self.begun.0.add_permits(1);
            pending::<()>().await;
        }
        if request.url.scheme() == "refused" {
            return Err(Error::new(ErrorKind::Unsupported, "no protocol for this scheme"));
        }
        let now = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        self.begun.0.add_permits(1);
        Ok(Box::new(FakeRun {
            fate: fate(request.url.scheme()),
            permits: self.permits.clone(),
            stop: Notify::new(),
            running: self.running.clone(),
        }))
    }
}

#[async_trait]
impl Running for FakeRun {
    fn events(&self) -> BoxStream<'static, Event> {
        stream::iter([Event::Warning("one".to_owned()), Event::Warning("two".to_owned())]).boxed()
    }

    fn stop(&self) {
        self.stop.notify_one();
    }

    async fn wait(&self) -> Result<Report> {
        let cancelled = || Err(Error::new(ErrorKind::Cancelled, "stopped"));
        let outcome = tokio::select! {
            () = self.stop.notified() => cancelled(),
            outcome = async {
                if let Some(permits) = &self.permits {
                    permits.acquire().await.unwrap().forget();
                }
                match &self.fate {
                    Some(Ok(report)) => Ok(report.clone()),
                    Some(Err(error)) => Err(Error::new(error.kind(), "as told")),
                    None => pending().await,
                }
            } => outcome,
        };
        self.running.fetch_sub(1, SeqCst);
        outcome
    }
}

/// Writes down what it is told; can be deaf from some point on.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    deaf_after: Option<usize>,
}

impl Log {
    fn add(&mut self, line: String) -> io::Result<()> {
        if self.deaf_after.is_some_and(|n| self.lines.len() >= n) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.lines.push(line);
        Ok(())
    }
}

impl Show for Log {
    fn started(&mut self, id: usize, _: &Request, _: Instant) -> io::Result<()> {
        self.add(format!("{id} started"))
    }
    fn event(&mut self, id: usize, event: &Event, _: Instant) -> io::Result<()> {
        self.add(match event {
            Event::Warning(text) => format!("{id} {text}"),
            other => format!("{id} {other:?}"),
        })
    }
    fn finished(&mut self, id: usize, _: &Request, outcome: &Result<Report>) -> io::Result<()> {
        self.add(match outcome {
            Ok(_) => format!("{id} complete"),
            Err(error) => format!("{id} {}", error.kind()),
        })
    }
    fn stopping(&mut self) -> io::Result<()> {
        self.add("stopping".to_owned())
    }
    fn done(&mut self, outcomes: &[Result<Report>], exit: Exit) -> io::Result<()> {
        self.add(format!("done {} {exit:?}", outcomes.len()))
    }
}

fn requests(schemes: &[&str]) -> Vec<Request> {
    let request = |scheme: &&str| Request {
        url: format!("{scheme}://h/f").parse().unwrap(),
        container: None,
        mirrors: Vec::new(),
        checksum: None,
        target: Target::Dir(".".into()),
    };
    schemes.iter().map(request).collect()
}

async fn run_all(schemes: &[&str], jobs: usize, engine: &Fake) -> (Exit, Vec<String>) {
    let mut log = Log::default();
    let exit = run(&requests(schemes), jobs, engine, &mut log, pending()).await;
    (exit, log.lines)
}

#[tokio::test]
async fn one_download_is_told_from_its_beginning_to_its_end() {
    let (exit, log) = run_all(&["ok"], 1, &Fake::default()).await;
    assert_eq!(exit, Exit::Complete);
    assert_eq!(log, ["0 started", "0 one", "0 two", "0 complete", "done 1 Complete"]);
}

#[tokio::test]
async fn all_are_tried_and_the_first_failure_in_the_order_given_decides() {
    let engine = Fake::default();
    let (exit, log) = run_all(&["ok", "corrupt", "ok", "lost", "refused"], 1, &engine).await;
    assert_eq!(exit, Exit::Corrupt);
    assert_eq!(engine.started.lock().unwrap().len(), 5);
    assert!(log.contains(&"4 unsupported".to_owned()), "{log:?}");
    assert_eq!(log.last().unwrap(), "done 5 Corrupt");
    assert_eq!(run_all(&["lost", "corrupt"], 2, &Fake::default()).await.0, Exit::NotFound);
}

#[tokio::test]
async fn no_more_than_jobs_run_at_once() {
    let permits = Arc::new(Semaphore::new(0));
    let engine = Fake { permits: Some(permits.clone()), ..Fake::default() };
    let release = async {
        for _ in 0..6 {
            engine.begun.next().await;
            permits.add_permits(1);
        }
    };
    let ((exit, _), ()) = tokio::join!(run_all(&["ok"; 6], 2, &engine), release);
    assert_eq!(exit, Exit::Complete);
    assert_eq!(engine.most.load(SeqCst), 2);
}

#[tokio::test]
async fn an_interruption_stops_what_runs_and_begins_nothing() {
    let engine = Fake::default();
    let mut log = Log::default();
    let requests = requests(&["lost", "forever", "forever"]);
    // The failed one makes room, so two have begun when the second one has.
    let interrupted = async {
        engine.begun.next().await;
        engine.begun.next().await;
    };
    let exit = run(&requests, 1, &engine, &mut log, interrupted).await;
    assert_eq!(exit, Exit::Interrupted, "it goes before the failure");
    assert_eq!(engine.started.lock().unwrap().len(), 2);
    assert_eq!(engine.running.load(SeqCst), 0);
    assert_eq!(log.lines.iter().filter(|line| line.ends_with("cancelled")).count(), 2, "{:?}", log.lines);
    assert!(log.lines.contains(&"stopping".to_owned()));
    assert_eq!(log.lines.last().unwrap(), "done 3 Interrupted");
}

/// `timeout` signals a program, and then its group.
#[test]
fn an_echo_of_an_interruption_is_not_a_second_one() {
    let first = Instant::now();
    assert!(!is_asked_again(first, first));
    assert!(!is_asked_again(first, first + ECHO / 2));
    assert!(is_asked_again(first, first + ECHO));
}

#[tokio::test]
async fn an_interruption_ends_the_asking_what_there_is() {
    let engine = Fake::default();
    let mut log = Log::default();
    let exit = run(&requests(&["asking"]), 1, &engine, &mut log, engine.begun.next()).await;
    assert_eq!(exit, Exit::Interrupted);
    assert!(log.lines.contains(&"0 cancelled".to_owned()), "{:?}", log.lines);
}

#[tokio::test]
async fn when_nobody_listens_everything_stops() {
    for deaf_after in 0..3 {
        let engine = Fake::default();
        let mut log = Log { deaf_after: Some(deaf_after), ..Log::default() };
        let exit = run(&requests(&["forever", "forever"]), 2, &engine, &mut log, pending()).await;
        assert_eq!(exit, Exit::Failed, "deaf after {deaf_after}");
        assert_eq!(engine.running.load(SeqCst), 0);
    }
}
