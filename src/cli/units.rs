//! Sizes, rates and durations: how they are written on the command line, and how they are shown.

use std::time::Duration;

/// The units of a number of bytes: thousands by the bare letter, 1024s with an `i`.
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

const NOT_A_NUMBER: &str = "not a number";

/// Reads a number of bytes: `1500`, `500k`, `2MB`, `1.5GiB`.
///
/// # Errors
///
/// A sentence for the user if it is none, or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    if number.is_empty() {
        return Err(NOT_A_NUMBER.to_owned());
    }
    let unit = unit.trim_start();
    if unit.ends_with('b') {
        return Err("'b' could be bits: write B for bytes, or leave it out".to_owned());
    }
    let unit = unit.strip_suffix('B').unwrap_or(unit).to_ascii_lowercase();
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("unknown unit: k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers of 1024".to_owned());
    };
    scaled(number, *factor)
}

/// Reads a rate in bytes a second: a size, optionally with `/s`. It is never 0.
///
/// # Errors
///
/// As [`parse_size`].
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    match parse_size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("a rate of 0 would never finish: leave the option out for no limit".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads a duration: `30` and `30s` are seconds, `500ms`, `2m`, `1h`. It is never 0.
///
/// # Errors
///
/// A sentence for the user if it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("unknown unit: write ms, s, m or h".to_owned()),
    };
    match scaled(number, millis)? {
        0 => Err("must be longer than 0".to_owned()),
        millis => Ok(Duration::from_millis(millis)),
    }
}

/// `number`, which may have a fraction, times `factor`, rounded down. In integers, so that no digit is lost.
fn scaled(number: &str, factor: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(NOT_A_NUMBER.to_owned());
    }
    let too_large = || "too large".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    // Eighteen digits are finer than one byte of a TiB.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        digits => {
            let digits: u128 = digits.parse().map_err(|_| too_large())?;
            digits * u128::from(factor) / 10_u128.pow(fraction.len() as u32)
        }
    };
    let total = u128::from(whole) * u128::from(factor) + part;
    u64::try_from(total).map_err(|_| too_large())
}

/// A number of bytes for people, in powers of 1024: `999 B`, `1.50 GiB`.
pub fn size(bytes: u64) -> String {
    const NAMES: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut name = 0;
    // What would be rounded up to 1024 of a unit is 1 of the next.
    while value >= 1023.95 && name + 1 < NAMES.len() {
        value /= 1024.0;
        name += 1;
    }
    let decimals = if value < 10.0 { 2 } else { 1 };
    format!("{value:.decimals$} {}", NAMES[name])
}

/// A duration for people: `0:07`, `12:34`, `1:02:03`, `3d 4h`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let seconds = seconds % 60;
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A moment for people, from seconds since 1970: `2023-11-14 22:13:20 UTC`.
#[cfg(feature = "bittorrent")]
pub fn date(seconds: u64) -> String {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // From the first of March of the year 0 on, so that the day that leap years have is the last of one.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // The months from March on have 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1_500),
            ("500k", 500_000),
            ("500K", 500_000),
            ("2M", 2_000_000),
            ("2MB", 2_000_000),
            ("2 MB", 2_000_000),
            ("1.5GiB", 1_610_612_736),
            ("1.5gi", 1_610_612_736),
            ("0.001k", 1),
            ("0.0001k", 0),
            ("1Ti", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", ".", "1.", ".5", "1.2.3", "-1", "+1", "1e3", "k", "5 q", "8Mb", "1x", "1/s", "0x10"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size("18446744073709551616"), Err("too large".to_owned()));
        assert_eq!(parse_size("17000000Ti"), Err("too large".to_owned()));
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("1.5MiB/s"), Ok(1_572_864));
        assert_eq!(parse_rate("500k"), Ok(500_000));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("0.1").is_err());
        assert!(parse_rate("1M/m").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("0").is_err());
        assert!(parse_duration("1 week").is_err());
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.00 KiB");
        assert_eq!(size(1024 * 1024 - 1), "1.00 MiB");
        assert_eq!(size(15 * 1024 * 1024), "15.0 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn clocks() {
        let clock = |s| clock(Duration::from_secs(s));
        assert_eq!(clock(7), "0:07");
        assert_eq!(clock(754), "12:34");
        assert_eq!(clock(3_723), "1:02:03");
        assert_eq!(clock(3 * 86_400 + 4 * 3_600 + 5), "3d 4h");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = parse_size(&text);
            let _ = parse_rate(&text);
            let _ = parse_duration(&text);
        }

        #[test]
        fn every_number_of_bytes_is_read_back(bytes: u64) {
            prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(parse_size(&format!("{bytes}.000B")), Ok(bytes));
        }

        #[test]
        fn a_unit_multiplies(number in 0..1_000_000_u64, unit in 0..UNITS.len()) {
            let (name, factor) = UNITS[unit];
            prop_assert_eq!(parse_size(&format!("{number}{name}B")), Ok(number * factor));
        }

        #[test]
        fn a_fraction_is_exact(thousandths in 0..10_000_000_u64) {
            let text = format!("{}.{:03}M", thousandths / 1_000, thousandths % 1_000);
            prop_assert_eq!(parse_size(&text), Ok(thousandths * 1_000));
        }

        #[test]
        fn a_size_for_people_is_short(bytes: u64) {
            prop_assert!(size(bytes).len() <= 10, "{}", size(bytes));
        }
    }

    #[cfg(feature = "bittorrent")]
    #[test]
    fn moments_as_people_read_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13:20 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert!(date(u64::MAX).ends_with(" UTC"));
    }
}
