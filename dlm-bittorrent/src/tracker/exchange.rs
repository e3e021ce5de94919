//! [`UdpExchange`]: one question to a tracker over UDP (BEP 15), repeated until it is answered.

use std::fmt;
use std::time::{Duration, Instant};

use dlm_api::{Error, ErrorKind, Result, Retry};
use fastrand::Rng;

use super::wire::udp::{Reply, announce_request, connect_request, scrape_request, url_data};
use super::{Announce, AnnounceReply, Swarm, TrackerUrl};
use crate::InfoHash;

/// How long an answer is waited for the first time. Doubled with every repetition (BEP 15).
const FIRST_WAIT: Duration = Duration::from_secs(15);

/// How often the wait is doubled at most (BEP 15).
const MAX_DOUBLINGS: u32 = 8;

/// How long a connection id is of use (BEP 15).
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// How often a request is repeated if nobody says: after 45 seconds it counts as a failure, and is asked again after
/// a pause. BEP 15 would go on for two hours.
const USUAL_RETRIES: u32 = 1;

/// What is asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Task {
    /// Announce.
    Announce(Announce),
    /// The numbers of these swarms.
    Scrape(Vec<InfoHash>),
}

/// What was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// To an announce.
    Announce(AnnounceReply),
    /// To a scrape, in the order in which it was asked.
    Scrape(Vec<Swarm>),
}

/// A connection id that a tracker gave, to be used for further questions to it while it is valid, from the same address.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Connection {
    id: u64,
    until: Instant,
}

impl Connection {
    /// Whether it can still be used.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// Without the id: who knows it can speak in our name.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("until", &self.until).finish_non_exhaustive()
    }
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)] // There is nothing else that a datagram's sender can do.
pub enum Step {
    /// Send this datagram, then ask again.
    Send(Vec<u8>),
    /// Ask again when a datagram has come, or at this time.
    Wait(Instant),
}

/// One question to a tracker, without a socket or a clock. Ask [`poll`](Self::poll) what to do, and give it what comes with
/// [`receive`](Self::receive).
///
/// Datagrams that belong to no request of its own are not looked at, so that who can't see ours has to guess a number of
/// 32 bits. Only what comes from the tracker's address should be given to it even so.
#[derive(Debug)]
pub struct UdpExchange {
    task: Task,
    url_data: Vec<u8>,
    is_ipv6: bool,
    rng: Rng,
    connection: Option<Connection>,
    /// The connection is one from before, which the tracker may have forgotten.
    is_reused: bool,
    sent: Option<Sent>,
    doublings: u32,
    retries_left: u32,
}

/// The request that is waited for.
#[derive(Copy, Clone, Debug)]
struct Sent {
    is_connect: bool,
    transaction: u32,
    repeat_at: Instant,
}

impl UdpExchange {
    /// A question to this tracker. `is_ipv6` says how it is reached. `connection` is what an earlier exchange with the
    /// same address left. The numbers that protect it from forgeries come from `seed`, so that must be random.
    pub fn new(tracker: &TrackerUrl, is_ipv6: bool, task: Task, connection: Option<Connection>, seed: u64) -> Self {
        Self {
            task,
            url_data: url_data(tracker),
            is_ipv6,
            rng: Rng::with_seed(seed),
            connection,
            is_reused: connection.is_some(),
            sent: None,
            doublings: 0,
            retries_left: USUAL_RETRIES,
        }
    }

    /// How often a request is repeated before it is given up.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries_left = retries;
        self
    }

    /// What to do now. Fails with [`ErrorKind::Timeout`] when nothing has come for too long.
    pub fn poll(&mut self, now: Instant) -> Result<Step> {
        if let Some(sent) = self.sent {
            if now < sent.repeat_at {
                return Ok(Step::Wait(sent.repeat_at));
            }
            if self.retries_left == 0 {
                return Err(Error::new(ErrorKind::Timeout, "the tracker does not answer"));
            }
            self.retries_left -= 1;
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        }
        let connection = self.connection.filter(|connection| connection.is_valid(now));
        let is_connect = connection.is_none();
        // A late answer to an earlier copy of the same request is as good.
        let same = self.sent.filter(|sent| sent.is_connect == is_connect);
        let transaction = same.map_or_else(|| self.rng.u32(..), |sent| sent.transaction);
        self.sent = Some(Sent { is_connect, transaction, repeat_at: now + FIRST_WAIT * (1 << self.doublings) });
        Ok(Step::Send(match (connection, &self.task) {
            (None, _) => connect_request(transaction),
            (Some(connection), Task::Announce(announce)) => {
                announce_request(connection.id, transaction, announce, &self.url_data, self.is_ipv6)
            }
            (Some(connection), Task::Scrape(torrents)) => scrape_request(connection.id, transaction, torrents),
        }))
    }

    /// Takes a datagram that came. `None` if the question is still open: [`poll`](Self::poll) says how to go on. Fails
    /// with [`ErrorKind::Denied`] if the tracker refuses.
    pub fn receive(&mut self, packet: &[u8], now: Instant) -> Result<Option<Answer>> {
        let Some(sent) = self.sent else { return Ok(None) };
        let reply = match Reply::parse(packet, self.is_ipv6) {
            Ok((transaction, reply)) if transaction == sent.transaction => reply,
            _ => return Ok(None),
        };
        match (reply, &self.task) {
            (Reply::Connect { connection }, _) if sent.is_connect => {
                self.connection = Some(Connection { id: connection, until: now + CONNECTION_LIFETIME });
                self.is_reused = false;
                self.restart();
                Ok(None)
            }
            (Reply::Error(_), _) if self.is_reused && !sent.is_connect => {
                // It may only have forgotten the connection.
                self.connection = None;
                self.is_reused = false;
                self.restart();
                Ok(None)
            }
            (Reply::Error(reason), _) => {
                Err(Error::new(ErrorKind::Denied, "the tracker refuses").with("reason", reason).with_retry(Retry::Now))
            }
            (Reply::Announce(reply), Task::Announce(_)) if !sent.is_connect => Ok(Some(Answer::Announce(reply))),
            (Reply::Scrape(swarms), Task::Scrape(torrents)) if !sent.is_connect => {
                Ok(Some(Answer::Scrape(swarms.into_iter().take(torrents.len()).collect())))
            }
            _ => Ok(None),
        }
    }

    /// The connection, for further questions.
    pub fn connection(&self) -> Option<Connection> {
        self.connection
    }

    /// The next request is a new one.
    fn restart(&mut self) {
        self.sent = None;
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(task: Task, connection: Option<Connection>) -> UdpExchange {
        let tracker = TrackerUrl::parse("udp://t.example:1/announce").unwrap();
        UdpExchange::new(&tracker, false, task, connection, 7)
    }

    fn announce() -> Task {
        Task::Announce(Announce::new([1; 20].into(), [2; 20], 3))
    }

    fn sent(exchange: &mut UdpExchange, now: Instant) -> Vec<u8> {
        match exchange.poll(now).unwrap() {
            Step::Send(packet) => packet,
            Step::Wait(_) => panic!("nothing is sent"),
        }
    }

    fn transaction(packet: &[u8]) -> [u8; 4] {
        packet[12..16].try_into().unwrap()
    }

    fn action(packet: &[u8]) -> u8 {
        packet[11]
    }

    fn connected(request: &[u8], id: u8) -> Vec<u8> {
        [&[0; 4][..], &transaction(request), &[0, 0, 0, 0, 0, 0, 0, id]].concat()
    }

    fn announced(request: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 1][..], &transaction(request), &[0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2, 192, 0, 2, 1, 0, 9]].concat()
    }

    fn refused(request: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 3][..], &transaction(request), b"go away"].concat()
    }

    /// The times at which something is sent, in seconds, and whether it is a connect request.
    fn schedule(exchange: &mut UdpExchange, start: Instant, from: Instant, until: u64) -> Vec<(u64, bool)> {
        let mut all = Vec::new();
        let mut now = from;
        while now <= start + Duration::from_secs(until) {
            match exchange.poll(now) {
                Ok(Step::Send(packet)) => all.push(((now - start).as_secs(), action(&packet) == 0)),
                Ok(Step::Wait(at)) => now = at,
                Err(_) => break,
            }
        }
        all
    }

    #[test]
    fn connects_are_repeated_as_bep_15_says() {
        let start = Instant::now();
        let mut exchange = exchange(announce(), None).with_retries(20);
        let times = schedule(&mut exchange, start, start, 16_000);
        let times: Vec<u64> = times.into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [0, 15, 45, 105, 225, 465, 945, 1905, 3825, 7665, 11_505, 15_345]);
    }

    #[test]
    fn announces_are_repeated_as_bep_15_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut exchange = exchange(announce(), None).with_retries(20);
        let connect = sent(&mut exchange, start);
        assert_eq!(exchange.receive(&connected(&connect, 9), at(1)).unwrap(), None);
        let times = schedule(&mut exchange, start, at(2), 300);
        assert_eq!(times, [(2, false), (17, false), (47, false), (107, true), (227, true)]);
    }

    #[test]
    fn a_question_is_answered() {
        let now = Instant::now();
        let mut exchange = exchange(announce(), None);
        let connect = sent(&mut exchange, now);
        assert_eq!(exchange.receive(&connected(&connect, 9), now).unwrap(), None);
        let request = sent(&mut exchange, now);
        assert_eq!((&request[..8], action(&request)), (&[0, 0, 0, 0, 0, 0, 0, 9][..], 1));
        assert_ne!(transaction(&request), transaction(&connect));
        assert!(request.ends_with(b"\x02\x09/announce"));
        let Some(Answer::Announce(reply)) = exchange.receive(&announced(&request), now).unwrap() else {
            panic!("none")
        };
        assert_eq!((reply.interval.as_secs(), reply.peers.len()), (1800, 1));
        // The next question needs no connect, as long as the connection is valid.
        let connection = exchange.connection();
        let mut next = self::exchange(Task::Scrape(vec![[1; 20].into()]), connection);
        let request = sent(&mut next, now + Duration::from_secs(59));
        assert_eq!((request[7], action(&request)), (9, 2));
        let swarms =
            [&[0, 0, 0, 2][..], &transaction(&request), &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], &[0; 12]].concat();
        let Some(Answer::Scrape(swarms)) = next.receive(&swarms, now).unwrap() else { panic!("none") };
        assert_eq!(swarms, [Swarm { complete: 1, downloaded: 2, incomplete: 3 }]);
        let mut late = self::exchange(announce(), connection);
        assert_eq!(action(&sent(&mut late, now + Duration::from_secs(60))), 0);
    }

    #[test]
    fn what_was_not_asked_for_is_not_looked_at() {
        let now = Instant::now();
        let mut exchange = exchange(announce(), None);
        assert_eq!(exchange.receive(&[0; 16], now).unwrap(), None);
        let connect = sent(&mut exchange, now);
        let mut forged = connected(&connect, 9);
        forged[7] ^= 1;
        // Of another transaction, too short, of a kind that doesn't fit.
        for packet in [&forged[..], &connected(&connect, 9)[..15], &announced(&connect), b"", &[0; 2000]] {
            assert_eq!(exchange.receive(packet, now).unwrap(), None);
            assert!(exchange.connection().is_none() && matches!(exchange.poll(now), Ok(Step::Wait(_))));
        }
        exchange.receive(&connected(&connect, 9), now).unwrap();
        let request = sent(&mut exchange, now);
        for packet in [connected(&request, 8), announced(&connect)] {
            assert_eq!(exchange.receive(&packet, now).unwrap(), None);
        }
        // An answer to an earlier copy is as good.
        let again = sent(&mut exchange, now + FIRST_WAIT);
        assert_eq!(again, request);
        assert!(exchange.receive(&announced(&request), now).unwrap().is_some());
    }

    #[test]
    fn a_refusal_ends_it_but_not_that_of_an_old_connection() {
        let now = Instant::now();
        let mut exchange = exchange(announce(), None);
        let connect = sent(&mut exchange, now);
        let error = exchange.receive(&refused(&connect), now).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Denied, "the tracker refuses (reason: go away)")
        );
        let old = Some(Connection { id: 5, until: now + CONNECTION_LIFETIME });
        let mut exchange = self::exchange(announce(), old);
        let request = sent(&mut exchange, now);
        assert_eq!(exchange.receive(&refused(&request), now).unwrap(), None);
        let connect = sent(&mut exchange, now);
        assert_eq!(action(&connect), 0);
        exchange.receive(&connected(&connect, 9), now).unwrap();
        let request = sent(&mut exchange, now);
        assert_eq!(exchange.receive(&refused(&request), now).unwrap_err().kind(), ErrorKind::Denied);
    }

    #[test]
    fn silence_is_given_up() {
        let start = Instant::now();
        let mut exchange = exchange(announce(), None);
        let times = schedule(&mut exchange, start, start, 10_000);
        assert_eq!(times, [(0, true), (15, true)]);
        let error = exchange.poll(start + Duration::from_secs(45)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
