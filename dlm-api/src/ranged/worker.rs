//! [`Worker`]: one connection: claim, ask, write.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time;

use super::RangedConfig;
use super::lane::{Lane, Seat};
use super::source::{Opened, RangeRequest, RangeSource};
use crate::error::{Error, ErrorKind, Result, Retry, Scope};
use crate::fact::Fact;
use crate::lease::{Flow, Lease};
use crate::ledger::NotNow;
use crate::origin::Permit;
use crate::pipeline::now;
use crate::scheduler::Want;
use crate::span::{OPEN_END, Span};
use crate::transfer::{LOOK_AGAIN, Transfer};

/// A request asks for what the connection brings in about this time, so that another one can take what was not asked for.
const REQUEST_SECONDS: u64 = 2;
const MIN_REQUEST: u64 = 1 << 20;
const MAX_REQUEST: u64 = 32 << 20;

/// What is asked for while the rate is unknown, in bytes.
const FIRST_REQUEST: u64 = 4 << 20;

/// Bytes that wait for more to come are written after this time without any.
const IDLE: Duration = Duration::from_millis(100);

/// A connection that brings nothing for this long is replaced, or for this many round trips if that is longer. Each time in
/// a row it is given twice as long, until the source's own timeout ends it: some servers are just slow.
const STALL: Duration = Duration::from_secs(3);
const STALL_ROUND_TRIPS: u32 = 8;

/// The pause before the first retry. It doubles with every failure in a row, up to the second number, and is spread by half.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A pause longer than this is not spent with a lease in the hand that somebody else could serve.
const PAUSE_WITH_LEASE: Duration = Duration::from_secs(1);

/// A source whose bytes did not match a digest this often is given up, even when there is no other.
const MAX_CORRUPT: u32 = 3;

/// One connection: claim, ask, write.
pub(super) struct Worker<R> {
    source: Arc<R>,
    lane: Arc<Lane>,
    seat: Seat,
    transfer: Transfer,
    config: RangedConfig,
    /// Failures in a row, without a byte in between.
    failures: u32,
    stalls: u32,
    corrupt: u32,
    /// Bytes that it brought and that were wanted.
    useful: u64,
    /// The length of the last body.
    served: u64,
    /// The length of the range asked for last; `None` for the whole.
    asked: Option<u64>,
    /// The rate of the last body, for the size of the next request.
    rate: Option<u64>,
}

/// How a request ended.
#[derive(PartialEq)]
enum Served {
    /// The body came to its end.
    Body,
    /// The lease wants nothing more.
    Lease,
    /// This connection is not wanted any more.
    Quit,
}

impl<R: RangeSource> Worker<R> {
    pub(super) fn new(source: Arc<R>, lane: Arc<Lane>, config: RangedConfig, permit: Permit) -> Self {
        let (seat, transfer) = (lane.add_slot(Some(permit)), lane.transfer().clone());
        Self {
            source,
            lane,
            seat,
            transfer,
            config,
            failures: 0,
            stalls: 0,
            corrupt: 0,
            useful: 0,
            served: 0,
            asked: None,
            rate: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<()> {
        while !self.seat.retire() {
            let Some(lease) = self.next().await else { return Ok(()) };
            if self.serve(lease).await? == Served::Quit {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for work; `None` when nothing more is wanted. Meanwhile others may have a connection in its place.
    async fn next(&mut self) -> Option<Lease> {
        let mut changes = self.transfer.changes();
        let origin = self.source.origin();
        while !self.lane.is_done() {
            if self.seat.take_permit(&origin) {
                match self.transfer.claim(self.want(), self.rate) {
                    Ok(lease) => return Some(lease),
                    Err(NotNow::Done) => {
                        // Those without a permit can't ask.
                        self.lane.finish();
                        return None;
                    }
                    Err(NotNow::Wait) => self.seat.give_permit_back(),
                }
            }
            self.seat.slot.idle();
            // Both ways there may be work, or a permit.
            let _ = time::timeout(LOOK_AGAIN, changes.next()).await;
        }
        None
    }

    fn want(&self) -> Want {
        let alone = self.config.connections == 1 || self.lane.is_single();
        let max = match self.rate {
            _ if alone => OPEN_END,
            Some(rate) => (rate * REQUEST_SECONDS).clamp(MIN_REQUEST, MAX_REQUEST),
            // The first one takes all: whoever comes later steals from it what has not come yet.
            None if self.lane.bytes() == 0 => OPEN_END,
            None => FIRST_REQUEST,
        };
        Want::Any { max }
    }

    async fn serve(&mut self, lease: Lease) -> Result<Served> {
        let mut lease = Some(lease);
        loop {
            let Some(span) = lease.as_ref().and_then(|l| l.remaining().into_iter().next()) else {
                return Ok(Served::Lease);
            };
            let before = self.useful;
            let result = self.fetch(&mut lease, &span).await;
            self.rate = self.seat.slot.rest(now()).filter(|rate| *rate > 0).or(self.rate);
            let mut error = match result {
                // An empty file is served without a byte.
                Ok(Served::Body) if self.useful > before || lease.as_ref().is_none_or(|l| l.remaining().is_empty()) => {
                    continue;
                }
                Ok(Served::Body) if self.shrinks_overlap() => continue,
                // Ranges that end before what is wanted begins are none.
                Ok(Served::Body) => {
                    let kind = if self.asked.is_some() { ErrorKind::Protocol } else { ErrorKind::Network };
                    Error::new(kind, "an answer without a byte that was wanted").with("offset", span.range.start)
                }
                Ok(served) => return Ok(served),
                Err(error) => error,
            };
            if let Some(lease) = &mut lease
                && let Err(worse) = lease.flush().await
            {
                error = worse;
            }
            if error.kind() == ErrorKind::Timeout && self.seat.slot.is_to_be_replaced() && self.seat.retire() {
                // Of more connections than there should be, this is the one to go.
                self.transfer.retrying(&error, Duration::ZERO);
                return Ok(Served::Quit);
            }
            if self.is_about_ranges(&error) {
                self.transfer.retrying(&error, Duration::ZERO);
                if self.lane.has_others(now()) {
                    return Ok(Served::Quit);
                }
                continue;
            }
            let pause = self.pause(error)?;
            if pause > PAUSE_WITH_LEASE {
                lease = None;
                self.seat.give_permit_back();
            }
            time::sleep(pause).await;
        }
    }

    /// Whether the server can be asked in another way: for the whole where its ranges make no sense, for less where it refuses
    /// a long range.
    fn is_about_ranges(&self, error: &Error) -> bool {
        let Some(asked) = self.asked else { return false };
        match error.kind() {
            ErrorKind::Protocol => self.lane.give_up_ranges(),
            ErrorKind::Denied if asked > MIN_REQUEST && !self.lane.has_others(now()) => {
                self.lane.set_max_span((asked / 2).clamp(MIN_REQUEST, MAX_REQUEST));
            }
            _ => return false,
        }
        true
    }

    /// How long to wait before the next try; the error itself if there is to be none.
    fn pause(&mut self, error: Error) -> Result<Duration> {
        match error.kind() {
            ErrorKind::Corrupt => {
                self.corrupt += 1;
                if self.corrupt >= MAX_CORRUPT || self.transfer.live_sources() > 1 {
                    return Err(error.with_scope(Scope::Source).with_retry(Retry::Never));
                }
                return Ok(Duration::ZERO);
            }
            ErrorKind::Throttled => {
                self.seat.permit().inspect(|permit| permit.complained());
                if self.lane.has_others(now()) {
                    // It just doesn't want so many connections.
                    return Err(error);
                }
            }
            _ => {}
        }
        if error.retry() == Retry::Never || error.scope() == Scope::Download {
            return Err(error);
        }
        if self.failures >= self.config.retries {
            return Err(error.with_scope(Scope::Source).with_retry(Retry::Never));
        }
        let usual = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        let spread = usual.mul_f64(0.5 + fastrand::f64());
        self.failures += 1;
        let pause = match error.retry() {
            Retry::After(least) => least.saturating_add(spread),
            _ => spread,
        };
        self.transfer.retrying(&error, pause);
        Ok(pause)
    }

    /// Asks for the first missing span of a lease, and writes what comes.
    async fn fetch(&mut self, lease: &mut Option<Lease>, span: &Span) -> Result<Served> {
        let entry = self.lane.entry();
        let len = self.transfer.len(entry);
        let to_the_end = len.is_none_or(|len| span.range.end >= len);
        let open_end = span.is_open_ended() || (to_the_end && (self.lane.is_first_request() || self.lane.is_single()));
        let compare = !self.transfer.is_covered_by_pieces(entry);
        let overlap = if compare { self.config.overlap.min(span.range.start) } else { 0 };
        let start = span.range.start - overlap;
        let max_span = self.lane.max_span();
        let end = match (!open_end).then_some(span.range.end) {
            end if max_span == u64::MAX => end,
            end => Some(end.or(len).unwrap_or(u64::MAX).min(start + max_span)),
        };
        let request = match self.lane.is_whole_only() {
            true => RangeRequest::whole(),
            false => RangeRequest::new(start, end).expecting(self.lane.expectation()),
        };
        self.asked = (!request.is_whole()).then(|| end.or(len).unwrap_or(u64::MAX) - start);
        let mut opened = self.source.open(&request).await?;
        self.lane.learn(&opened)?;
        self.seat.permit().inspect(|permit| permit.went_well());
        let _connected = self.transfer.connected();
        self.transfer.shared.ledger(|ledger| ledger.count_stream(entry, &opened.identities));
        self.seat.slot.restart(now());
        if opened.start > start {
            return Err(Error::new(ErrorKind::Protocol, "the answer starts after what was asked for")
                .with("asked", start)
                .with("came", opened.start));
        }
        if opened.start < start {
            return self.restream(lease, opened).await;
        }
        let Some(lease) = lease else { return Ok(Served::Lease) };
        let mut at = start;
        let mut seam = BytesMut::with_capacity(overlap as usize);
        while let Some(mut chunk) = self.next_chunk(&mut opened, Some(&mut *lease)).await? {
            if at < span.range.start {
                let part = chunk.split_to(chunk.len().min((span.range.start - at) as usize));
                at += part.len() as u64;
                seam.extend_from_slice(&part);
                if at == span.range.start {
                    self.transfer.witness(entry, start, seam.split().freeze(), true).await?;
                }
            }
            if chunk.is_empty() {
                continue;
            }
            if self.lane.is_single() {
                // A sibling may have taken the tail, to find that it can't have it.
                lease.extend();
            }
            let len = chunk.len() as u64;
            let flow = self.write(lease, at, chunk).await?;
            at += len;
            if flow == Flow::Stop {
                if Some(at) == opened.end {
                    // The end of the body gives the connection back.
                    let _ = futures::poll!(opened.body.next());
                }
                return Ok(Served::Lease);
            }
        }
        lease.flush().await?;
        self.served = at - start;
        self.body_ended(&opened, at)?;
        Ok(Served::Body)
    }

    /// The answer was so short that there was only room for an overlap. Says whether there is room for more with a smaller one;
    /// without any, nothing would tell whether the answers belong together.
    fn shrinks_overlap(&mut self) -> bool {
        let room = self.served / 2;
        let shrinks = room > 0 && room < self.config.overlap;
        if shrinks {
            self.config.overlap = room;
        }
        shrinks
    }

    /// Hands bytes over. Only such as are wanted count as progress.
    async fn write(&mut self, lease: &mut Lease, at: u64, bytes: Bytes) -> Result<Flow> {
        let before = lease.admitted();
        let flow = lease.write(self.lane.entry(), at, bytes).await;
        let useful = lease.admitted() - before;
        if useful > 0 {
            self.useful += useful;
            (self.failures, self.stalls) = (0, 0);
        }
        flow
    }

    /// The body is over at `at`.
    fn body_ended(&self, opened: &Opened, at: u64) -> Result<()> {
        if !opened.is_delimited {
            self.transfer.shared.ledger(|ledger| ledger.doubt_end(self.lane.entry()));
        }
        match opened.end {
            None => self.transfer.learn(Fact::Len(self.lane.entry(), at)),
            Some(end) if at < end => {
                Err(Error::new(ErrorKind::Network, "the body ended early").with("at", at).with("of", end))
            }
            Some(_) => Ok(()),
        }
    }

    /// The server sends the whole although a range was asked for. If others deliver, let them. If not, what is here already
    /// is compared as it passes by, and the rest is written.
    async fn restream(&mut self, lease: &mut Option<Lease>, mut opened: Opened) -> Result<Served> {
        *lease = None;
        if self.lane.has_others(now()) {
            return Ok(Served::Quit);
        }
        let mut current: Option<Lease> = None;
        let mut at = opened.start;
        let mut seam = BytesMut::new();
        while let Some(mut chunk) = self.next_chunk(&mut opened, current.as_mut()).await? {
            while !chunk.is_empty() {
                if current.is_none() {
                    current = self.transfer.claim(Want::Any { max: OPEN_END }, self.rate).ok();
                }
                let next = current.as_ref().and_then(|l| l.remaining().into_iter().next());
                let Some(next) = next.filter(|s| s.range.start >= at) else {
                    // Nothing that comes after this point is missing.
                    return Ok(Served::Lease);
                };
                let part = chunk.split_to(chunk.len().min((next.range.start - at) as usize));
                self.compare(at, &part).await?;
                at += part.len() as u64;
                keep_last(&mut seam, &part, self.config.overlap);
                if let (Some(lease), false) = (&mut current, chunk.is_empty()) {
                    if !seam.is_empty() {
                        // Somebody else may still be bringing these.
                        let before = seam.split().freeze();
                        self.transfer.witness(self.lane.entry(), at - before.len() as u64, before, false).await?;
                    }
                    let len = chunk.len().min((next.range.end - at) as usize);
                    let flow = self.write(lease, at, chunk.split_to(len)).await?;
                    at += len as u64;
                    if flow == Flow::Stop {
                        current = None;
                    }
                }
            }
        }
        if let Some(lease) = &mut current {
            lease.flush().await?;
        }
        self.body_ended(&opened, at)?;
        Ok(Served::Lease)
    }

    /// Compares bytes with what is sealed there.
    async fn compare(&self, at: u64, bytes: &Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.transfer.count(bytes.len() as u64, true);
        let span = Span::new(self.lane.entry(), at..at + bytes.len() as u64);
        if !self.transfer.is_sealed(&span) {
            return Ok(());
        }
        self.transfer.witness(span.entry, at, bytes.clone(), false).await
    }

    /// The next bytes of a body. Writes what waits when they are slow to come, and gives up when they don't come at all.
    async fn next_chunk(&mut self, opened: &mut Opened, lease: Option<&mut Lease>) -> Result<Option<Bytes>> {
        // Before the next bytes are taken: such as have come would have to be asked for again.
        if self.seat.slot.is_to_be_replaced() {
            return Err(slow());
        }
        let next = match futures::poll!(opened.body.next()) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                self.seat.slot.set_waiting(true);
                let next = self.wait(&mut opened.body, opened.rtt, lease).await;
                self.seat.slot.set_waiting(false);
                next?
            }
        };
        let chunk = next.transpose()?;
        if let Some(chunk) = &chunk {
            self.lane.received(&self.seat.slot, chunk.len() as u64, now());
        }
        Ok(chunk)
    }

    async fn wait(
        &mut self,
        body: &mut BoxStream<'static, Result<Bytes>>,
        rtt: Option<Duration>,
        lease: Option<&mut Lease>,
    ) -> Result<Option<Result<Bytes>>> {
        if let Ok(next) = time::timeout(IDLE, body.next()).await {
            return Ok(next);
        }
        if let Some(lease) = lease.filter(|lease| lease.is_dirty()) {
            lease.flush().await?;
        }
        let patience = STALL.max(rtt.unwrap_or_default() * STALL_ROUND_TRIPS).saturating_mul(1 << self.stalls.min(8));
        let stalled = |why| Err(Error::new(ErrorKind::Timeout, why));
        tokio::select! {
            next = body.next() => Ok(next),
            () = self.seat.slot.replaced() => Err(slow()),
            _ = time::sleep(patience) => {
                self.stalls += 1;
                stalled("nothing came for a while")
            }
        }
    }
}

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "the connection is much slower than its siblings")
}

/// Adds to the bytes before a place, of which no more than `most` are kept.
fn keep_last(seam: &mut BytesMut, part: &[u8], most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    seam.extend_from_slice(&part[part.len().saturating_sub(most)..]);
    let excess = seam.len().saturating_sub(most);
    let _ = seam.split_to(excess);
}
