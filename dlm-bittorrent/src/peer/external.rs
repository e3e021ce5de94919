//! What our address is, as the world sees it.

use std::collections::VecDeque;
use std::net::IpAddr;

use dlm_http::is_local;

use super::list::network;

/// How many of the latest to say it are believed, of each kind of address: an address changes while a torrent runs, and what
/// was said of the old one is not to outweigh what is said of the new one for long.
const MAX_VOTES: usize = 32;

/// Who says what our address is. Each has one vote.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Voter {
    /// A tracker (BEP 24), by its number.
    Tracker(usize),
    /// A peer (BEP 10), by its address.
    Peer(IpAddr),
}

/// Our addresses as the world sees them, one of IPv4 and one of IPv6: what most of those say who talk to us. The first to say
/// something is believed until more say something else.
#[derive(Clone, Default, Debug)]
pub struct ExternalAddress {
    v4: Votes,
    v6: Votes,
}

#[derive(Clone, Default, Debug)]
struct Votes {
    latest: VecDeque<(Voter, IpAddr)>,
    believed: Option<IpAddr>,
}

impl ExternalAddress {
    /// Somebody says that this is our address. What nobody can have in the world is not listened to. The answer is what is
    /// believed now, if that has changed.
    pub fn vote(&mut self, voter: Voter, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if is_local(address) {
            return None;
        }
        let voter = match voter {
            Voter::Peer(address) => Voter::Peer(network(address)),
            tracker @ Voter::Tracker(_) => tracker,
        };
        let votes = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        votes.latest.retain(|(other, _)| *other != voter);
        votes.latest.push_back((voter, address));
        if votes.latest.len() > MAX_VOTES {
            votes.latest.pop_front();
        }
        let count = |address: IpAddr| votes.latest.iter().filter(|(_, said)| *said == address).count();
        if votes.believed == Some(address) || votes.believed.is_some_and(|believed| count(believed) >= count(address)) {
            return None;
        }
        votes.believed = Some(address);
        votes.believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn peer(n: u8) -> Voter {
        Voter::Peer([9, 9, 9, n].into())
    }

    #[test]
    fn the_majority_is_believed_of_each_kind() {
        let mut ours = ExternalAddress::default();
        assert_eq!(ours.vote(peer(1), ip("1.1.1.1")), Some(ip("1.1.1.1")));
        assert_eq!(ours.vote(Voter::Tracker(0), ip("2.2.2.2")), None);
        assert_eq!(ours.vote(peer(2), ip("::ffff:2.2.2.2")), Some(ip("2.2.2.2")));
        assert_eq!(ours.vote(peer(1), ip("2606:4700::1")), Some(ip("2606:4700::1")));
        assert_eq!(ours.vote(peer(3), ip("2.2.2.2")), None, "it is known");
    }

    #[test]
    fn nobody_has_two_votes() {
        let mut ours = ExternalAddress::default();
        ours.vote(peer(1), ip("1.1.1.1"));
        for voter in [peer(2), peer(2), Voter::Peer(ip("2606:4700::1")), Voter::Peer(ip("2606:4700::2"))] {
            let believed = ours.vote(voter, ip("2.2.2.2"));
            assert_eq!(believed.is_some(), voter == Voter::Peer(ip("2606:4700::1")), "{voter:?}");
        }
        for n in 3..=4 {
            ours.vote(peer(n), ip("1.1.1.1"));
        }
        assert_eq!(ours.v4.believed, Some(ip("1.1.1.1")));
    }

    #[test]
    fn an_address_that_nobody_sees_any_more_is_forgotten() {
        let mut ours = ExternalAddress::default();
        (0..200).for_each(|n| _ = ours.vote(peer(n), ip("1.1.1.1")));
        let changed = (0..200).position(|n| ours.vote(peer(n), ip("2.2.2.2")).is_some());
        assert_eq!(changed, Some(MAX_VOTES / 2));
        assert!(ours.v4.latest.len() <= MAX_VOTES);
    }

    #[test]
    fn what_is_no_address_in_the_world_is_not_listened_to() {
        let mut ours = ExternalAddress::default();
        for address in ["127.0.0.1", "10.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "fe80::1", "::"] {
            assert_eq!(ours.vote(peer(1), ip(address)), None, "{address}");
        }
    }
}
