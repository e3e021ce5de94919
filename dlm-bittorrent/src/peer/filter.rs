//! Which addresses may be spoken to.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The most ranges kept. The largest lists in use have half as many; each takes some 40 bytes.
const MAX_RANGES: usize = 1_000_000;

/// The most of a line that is looked at, in bytes. Names are a few words.
const MAX_LINE: usize = 1024;

/// The most colons that the name of a range of IPv6 has.
const MAX_NAME_COLONS: usize = 8;

/// In lists of the `.dat` kind, ranges with a level up to this are blocked.
const BLOCKED_LEVEL: u32 = 127;

/// Whether an address may be spoken to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Access {
    /// It may.
    Allow,
    /// It may not, neither way.
    Deny,
}

/// Ranges of addresses that are allowed or denied. A later rule overrides earlier ones where they overlap; an address
/// without a rule is allowed.
#[derive(Clone, Default, Debug)]
pub struct IpFilter {
    /// What holds from each address up to the next one. IPv4 addresses stand where IPv6 maps them.
    changes: BTreeMap<u128, Access>,
}

impl IpFilter {
    /// A filter that allows everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule for the addresses from `first` to `last`, both included.
    ///
    /// # Errors
    /// If `last` comes before `first`, they are of different kinds, or there are too many ranges.
    pub fn add(&mut self, first: IpAddr, last: IpAddr, access: Access) -> Result<(), FilterError> {
        let error = |what| Err(FilterError { line: None, what });
        if !is_one_kind(first, last) || number(last) < number(first) {
            return error(Wrong::NoRange);
        }
        if self.changes.len() + 2 > MAX_RANGES * 2 {
            return error(Wrong::TooMany);
        }
        let (first, last) = (number(first), number(last));
        if let Some(behind) = last.checked_add(1) {
            let was = self.at(behind);
            self.changes.insert(behind, was);
        }
        let inside: Vec<u128> = self.changes.range(first..=last).map(|(at, _)| *at).collect();
        inside.iter().for_each(|at| _ = self.changes.remove(at));
        self.changes.insert(first, access);
        Ok(())
    }

    /// Whether the address may be spoken to.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.at(number(address)) == Access::Allow
    }

    fn at(&self, address: u128) -> Access {
        self.changes.range(..=address).next_back().map_or(Access::Allow, |(_, access)| *access)
    }
}

/// What was read of a list of addresses.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct FilterList {
    /// How many ranges it names.
    pub ranges: usize,
    /// How many lines nobody understands. Every such list has some.
    pub skipped: usize,
    /// The first of them, from 1.
    pub first_skipped: Option<usize>,
}

impl IpFilter {
    /// Denies the addresses in a list, in the forms in which such lists exist, one range a line:
    ///
    /// - `name:1.2.3.0-1.2.3.255` (`.p2p`, PeerGuardian);
    /// - `001.002.003.000 - 001.002.003.255 , 100 , name` (`.dat`, eMule), where a number over 127 allows the range;
    /// - `1.2.3.0-1.2.3.255`, `1.2.3.0/24` or `1.2.3.4` alone; all of them with IPv6 too.
    ///
    /// Empty lines, and those that begin with `#` or `;`, or `//`, say nothing. A text need not be UTF-8.
    ///
    /// # Errors
    /// With the line, if there are more than a million ranges, or nothing is understood in spite of there being lines: that
    /// is no such list, and who believes to be protected by it is not.
    pub fn add_list(&mut self, list: &[u8]) -> Result<FilterList, FilterError> {
        let mut read = FilterList::default();
        for (index, line) in list.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let is_full = |_| FilterError { line: Some(number), what: Wrong::TooMany };
            match Line::parse(line) {
                Line::Nothing => {}
                Line::Allowed => read.ranges += 1,
                Line::Denied(first, last) => {
                    read.ranges += 1;
                    self.add(first, last, Access::Deny).map_err(is_full)?;
                }
                Line::Strange => {
                    read.skipped += 1;
                    read.first_skipped.get_or_insert(number);
                }
            }
        }
        match read.first_skipped {
            Some(line) if read.ranges == 0 => Err(FilterError { line: Some(line), what: Wrong::NoRange }),
            _ => Ok(read),
        }
    }
}

/// As [`add_list`](IpFilter::add_list) does it.
impl FromStr for IpFilter {
    type Err = FilterError;

    fn from_str(list: &str) -> Result<Self, FilterError> {
        let mut filter = Self::new();
        filter.add_list(list.as_bytes()).map(|_| filter)
    }
}

/// A range that makes no sense, or one too many, and in which line that is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FilterError {
    line: Option<usize>,
    what: Wrong,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Wrong {
    NoRange,
    TooMany,
}

impl FilterError {
    /// The line of the list, from 1; `None` for a range that was not read from a list.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.what {
            Wrong::NoRange => f.write_str("not a range of addresses"),
            Wrong::TooMany => write!(f, "more than {MAX_RANGES} ranges of addresses"),
        }
    }
}

impl Error for FilterError {}

fn number(address: IpAddr) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.into()
}

/// What a line of a list says.
#[derive(PartialEq, Eq, Debug)]
enum Line {
    Nothing,
    Denied(IpAddr, IpAddr),
    Allowed,
    Strange,
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        let Some(line) = line.get(..line.len().min(MAX_LINE)) else { return Self::Strange };
        // Names are in any encoding; addresses are ASCII.
        let line = String::from_utf8_lossy(line);
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//") {
            return Self::Nothing;
        }
        if let Some((range, rest)) = line.split_once(',')
            && let Some((first, last)) = range_of(range)
        {
            let level = rest.split(',').next().unwrap_or_default().trim();
            return match level.parse::<u32>() {
                Ok(level) if level > BLOCKED_LEVEL => Self::Allowed,
                Ok(_) => Self::Denied(first, last),
                Err(_) => Self::Strange,
            };
        }
        // A name may have colons; an address of IPv6 has them too, so that what stands alone is tried first.
        let named = || range_of(line.rsplit_once(':')?.1);
        let named_v6 = || line.match_indices(':').take(MAX_NAME_COLONS).find_map(|(at, _)| range_of(&line[at + 1..]));
        match range_of(line).or_else(named).or_else(named_v6) {
            Some((first, last)) => Self::Denied(first, last),
            None => Self::Strange,
        }
    }
}

/// A range that doesn't go backwards.
fn range_of(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((network, bits)) = text.split_once('/') {
        return network_of(address(network)?, bits.trim().parse().ok()?);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (address(first)?, address(last)?);
    (is_one_kind(first, last) && number(first) <= number(last)).then_some((first, last))
}

/// The first and the last address of a network (RFC 4632).
fn network_of(address: IpAddr, bits: u32) -> Option<(IpAddr, IpAddr)> {
    Some(match address {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
            let first = u32::from(v4) & !rest;
            (bits <= 32).then_some((Ipv4Addr::from(first).into(), Ipv4Addr::from(first | rest).into()))?
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
            let first = u128::from(v6) & !rest;
            (bits <= 128).then_some((Ipv6Addr::from(first).into(), Ipv6Addr::from(first | rest).into()))?
        }
    })
}

fn is_one_kind(first: IpAddr, last: IpAddr) -> bool {
    first.to_canonical().is_ipv4() == last.to_canonical().is_ipv4()
}

/// An address; `.dat` lists fill numbers up with zeros.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = text.split('.').map(|part| part.parse::<u8>().ok());
    let address: [u8; 4] = [octets.next()??, octets.next()??, octets.next()??, octets.next()??];
    octets.next().is_none().then(|| address.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lists_of_all_kinds_are_read() {
        let list =
            b"# comment\n\nSome: name, Inc:1.2.3.0-1.2.3.255\r\n005.006.007.000 - 005.006.007.009 , 100 , bad: one\n\
                     9.9.9.9 - 9.9.9.9 , 200 , good\nnonsense\n2001:db8::-2001:db8::ffff\nx:7.7.7.7-7.7.7.6\n8.8.8.8\n\
                     // comment\n;comment\n11.0.0.0/8\n12.1.2.3/31\n2606:4700::/32\nname: of it:2a00::1-2a00::2\n\
                     \xe9t\xe9:13.0.0.1-13.0.0.1\n1.1.1.0/33\n14.0.0.1-2001::\n";
        let mut filter = IpFilter::new();
        let read = filter.add_list(list).unwrap();
        assert_eq!((read.ranges, read.skipped, read.first_skipped), (10, 4, Some(6)));
        for (address, allowed) in [
            ("1.2.2.255", true),
            ("1.2.3.0", false),
            ("1.2.3.255", false),
            ("1.2.4.0", true),
            ("5.6.7.9", false),
            ("5.6.7.10", true),
            ("9.9.9.9", true),
            ("8.8.8.8", false),
            ("7.7.7.7", true),
            ("2001:db8::5", false),
            ("2001:db8::1:0", true),
            ("::ffff:1.2.3.4", false),
            ("11.255.0.1", false),
            ("12.1.2.1", true),
            ("12.1.2.2", false),
            ("12.1.2.3", false),
            ("12.1.2.4", true),
            ("2606:4700:ffff::1", false),
            ("2606:4701::", true),
            ("2a00::2", false),
            ("13.0.0.1", false),
            ("14.0.0.1", true),
        ] {
            assert_eq!(filter.allows(ip(address)), allowed, "{address}");
        }
        let everything: IpFilter = "0.0.0.0/0\n::/0".parse().unwrap();
        assert!(!everything.allows(ip("255.255.255.255")) && !everything.allows(ip("ffff::1")));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let read = |list: &[u8]| IpFilter::new().add_list(list);
        let error = read(b"\n# x\n<html>\n<body>").unwrap_err();
        assert_eq!((error.line(), error.to_string().as_str()), (Some(3), "line 3: not a range of addresses"));
        assert_eq!(read(b"# nothing\n"), Ok(FilterList::default()));
        let long = [b"x".repeat(MAX_LINE), b":1.2.3.4-1.2.3.4".to_vec()].concat();
        assert!(read(&long).is_err());
        let mut full = IpFilter { changes: (0..MAX_RANGES as u128 * 2 - 2).map(|at| (at, Access::Deny)).collect() };
        let error = full.add_list(b"1.0.0.0\n2.0.0.0\n").unwrap_err();
        assert_eq!(error.line(), Some(2));
        assert!(error.to_string().ends_with(": more than 1000000 ranges of addresses"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut filter = IpFilter::new();
        assert!(filter.add(ip("2.0.0.0"), ip("1.0.0.0"), Access::Deny).is_err());
        assert!(filter.add(ip("1.0.0.0"), ip("2001::"), Access::Deny).is_err());
        assert!(filter.add(ip("::"), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Access::Deny).is_ok());
        assert!(!filter.allows(ip("8.8.8.8")));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(list in prop::collection::vec("([0-9a-f]{0,4}[.:]|[-/, #]|\\PC){0,24}", 0..8)) {
            let _ = IpFilter::new().add_list(list.join("\n").as_bytes());
        }

        #[test]
        fn the_last_rule_wins(rules in prop::collection::vec((any::<u8>(), any::<u8>(), any::<bool>()), 0..20)) {
            let mut filter = IpFilter::new();
            let mut model = [true; 256];
            for (a, b, allow) in rules {
                let (first, last) = (a.min(b), a.max(b));
                let access = if allow { Access::Allow } else { Access::Deny };
                filter.add([10, 0, 0, first].into(), [10, 0, 0, last].into(), access).unwrap();
                model[first as usize..=last as usize].fill(allow);
            }
            for last in 0..=255u8 {
                prop_assert_eq!(filter.allows([10, 0, 0, last].into()), model[last as usize]);
            }
            prop_assert!(filter.allows([10, 0, 1, 0].into()));
        }
    }
}
