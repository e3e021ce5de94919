//! Which addresses may be spoken to.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The most ranges kept. The largest lists in use have half as many; each takes some 40 bytes.
const MAX_RANGES: usize = 1_000_000;

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
        let kinds_differ = first.to_canonical().is_ipv4() != last.to_canonical().is_ipv4();
        let (first, last) = (number(first), number(last));
        if kinds_differ || last < first || self.changes.len() + 2 > MAX_RANGES * 2 {
            return Err(FilterError);
        }
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

/// Reads a list, one range a line: `name:1.2.3.0-1.2.3.255` (`.p2p`), `1.2.3.0 - 1.2.3.255 , 100 , name` (`.dat`), or
/// a range or an address alone. Empty lines and lines that begin with `#` say nothing; nor do those that nobody
/// understands, which every such list has.
impl FromStr for IpFilter {
    type Err = FilterError;

    fn from_str(list: &str) -> Result<Self, FilterError> {
        let mut filter = Self::new();
        for (first, last) in list.lines().filter_map(blocked_range) {
            if filter.changes.len() + 2 > MAX_RANGES * 2 {
                return Err(FilterError);
            }
            // A range that goes backwards is one of those that nobody understands.
            let _ = filter.add(first, last, Access::Deny);
        }
        Ok(filter)
    }
}

/// A range that makes no sense, or one too many.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FilterError;

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a range of addresses, or one too many")
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

fn blocked_range(line: &str) -> Option<(IpAddr, IpAddr)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    if let Some((range, rest)) = line.split_once(',') {
        let level = rest.split(',').next().unwrap_or_default().trim();
        let blocked = level.parse().is_ok_and(|level: u32| level <= BLOCKED_LEVEL);
        return if blocked { range_of(range) } else { None };
    }
    // A name may have colons; an address of IPv6 has them too, so that what stands alone is tried first.
    range_of(line).or_else(|| range_of(line.rsplit_once(':')?.1))
}

fn range_of(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((address(first)?, address(last)?))
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
    fn lists_of_both_kinds_are_read() {
        let list = "# comment\n\nSome: name, Inc:1.2.3.0-1.2.3.255\n005.006.007.000 - 005.006.007.009 , 100 , bad\n\
                    9.9.9.9 - 9.9.9.9 , 200 , good\nnonsense\n2001:db8::-2001:db8::ffff\nx:7.7.7.7-7.7.7.6\n8.8.8.8";
        // A comma in a name makes it look like the other kind, so it has none here.
        let filter: IpFilter = list.replace("name, Inc", "name").parse().unwrap();
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
        ] {
            assert_eq!(filter.allows(ip(address)), allowed, "{address}");
        }
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
