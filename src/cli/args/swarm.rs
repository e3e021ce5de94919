//! The options of `dlm get` that are about torrents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueHint, value_parser};
use dlm_bittorrent::tracker::TrackerUrl;
use dlm_bittorrent::{HostPort, SeedGoal};

use crate::cli::units::{parse_duration, parse_rate};

/// What can be asked for when a torrent is downloaded.
#[derive(Args, Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct SwarmArgs {
    /// Download what the torrent in this file leads to, whatever its name; - is standard input. Can be repeated
    #[arg(long = "torrent", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Torrents")]
    pub torrents: Vec<PathBuf>,

    /// Connect to this peer too. Can be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", value_parser = parse_peer, help_heading = "Torrents")]
    pub peers: Vec<HostPort>,

    /// Ask this tracker too, except for private torrents. Can be repeated
    #[arg(long = "tracker", value_name = "URL", value_parser = parse_tracker, value_hint = ValueHint::Url, help_heading = "Torrents")]
    pub trackers: Vec<TrackerUrl>,

    /// Go on giving to others when everything is here: ratio=1.5, time=2h, ratio=2,time=1h, forever, off
    ///
    /// With a ratio until so many times the length of the content was given, with a time for so long; with both until the
    /// first of them is reached. An interruption ends it, and counts as a success then.
    #[arg(long, value_name = "GOAL", default_value = "off", hide_default_value = true, help_heading = "Torrents")]
    pub seed: Seed,

    /// Let peers connect to this address [default: a free port of every IPv4 address]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Torrents")]
    pub listen: Option<SocketAddr>,

    /// Give others at most this many bytes a second, all torrents together: 500k, 2M, 1.5MiB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Torrents")]
    pub upload_limit: Option<u64>,

    /// Have nothing to do with peers at the addresses in this file. Can be repeated
    ///
    /// The lists that others use are understood: ipfilter.dat of eMule, .p2p of PeerGuardian, and ranges, networks
    /// (1.2.3.0/24) or addresses, one a line. Trackers and web seeds are not looked at.
    #[arg(long = "ip-filter", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Torrents")]
    pub ip_filters: Vec<PathBuf>,

    /// At most this many peers for a torrent [default: 50]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=4096), help_heading = "Torrents")]
    pub max_peers: Option<u16>,
}

/// When what was downloaded was given to others for long enough.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct Seed(SeedGoal);

impl Seed {
    /// As the protocol has it.
    pub fn goal(self) -> SeedGoal {
        self.0
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => return Ok(Self(SeedGoal::OFF)),
            "forever" => return Ok(Self(SeedGoal::FOREVER)),
            _ => {}
        }
        let mut goal = SeedGoal::OFF;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("ratio", ratio)) if goal.ratio.is_none() => goal.ratio = Some(parse_ratio(ratio)?),
                Some(("time", time)) if goal.time.is_none() => goal.time = Some(parse_duration(time)?),
                Some(("ratio" | "time", _)) => return Err("a ratio or a time is given twice".to_owned()),
                _ => return Err("write ratio=1.5, time=2h, ratio=2,time=1h, forever or off".to_owned()),
            }
        }
        Ok(Self(goal))
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.parse() {
        Ok(ratio) if is_plain && ratio > 0.0 => Ok(ratio),
        _ => Err("a ratio is a number over 0, such as 1.5".to_owned()),
    }
}

fn parse_peer(text: &str) -> Result<HostPort, String> {
    text.parse().map_err(|_| "a peer is written HOST:PORT, or [ADDRESS]:PORT with an IPv6 address".to_owned())
}

/// A tracker that may be asked. The error does not repeat it: there may be a key of the user's in it.
pub(super) fn parse_tracker(text: &str) -> Result<TrackerUrl, String> {
    TrackerUrl::parse(text).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn goals() {
        let goal = |text: &str| text.parse::<Seed>().map(Seed::goal);
        assert_eq!(goal("off"), Ok(SeedGoal::OFF));
        assert_eq!(goal("forever"), Ok(SeedGoal::FOREVER));
        assert_eq!(goal("ratio=1.5"), Ok(SeedGoal::ratio(1.5)));
        assert_eq!(goal("time=2h"), Ok(SeedGoal::time(Duration::from_secs(7200))));
        let both = goal("time=30,ratio=2").unwrap();
        assert_eq!((both.ratio, both.time, both.forever), (Some(2.0), Some(Duration::from_secs(30)), false));
        for bad in [
            "",
            "1.5",
            "on",
            "ratio",
            "ratio=",
            "ratio=0",
            "ratio=-1",
            "ratio=inf",
            "ratio=1e3",
            "ratio=.",
            "ratio=1,ratio=2",
            "time=0",
            "time=x",
            "ratio=1,",
            "ratio=1,off",
        ] {
            assert!(goal(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ratio=|time=|,|[0-9.]{0,3}|h|\\PC){0,6}") {
            let _ = text.parse::<Seed>();
            let _ = parse_peer(&text);
            let _ = parse_tracker(&text);
        }
    }
}
