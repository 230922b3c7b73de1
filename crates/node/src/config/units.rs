//! Sizes and durations with their units, as people write them.

use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes. Written with a unit: `64 KiB`, `256 MiB`, `1 GiB`, `512 B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0 >= *bytes && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

impl FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        // "B" is the end of every unit, so it comes last.
        let (number, bytes) =
            UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes))).ok_or(())?;
        let number: u64 = number.trim().parse().map_err(drop)?;
        number.checked_mul(bytes).map(Self).ok_or(())
    }
}

/// A duration with its unit, as `5s`, `200ms`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, ()> {
    let has_unit = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if has_unit { humantime::parse_duration(text).map_err(drop) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit_and_round_trip() {
        for (text, bytes) in [("512 B", 512), ("64 KiB", 65_536), ("256 MiB", 256 << 20), ("3 GiB", 3 << 30)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        for text in ["", "512", "MiB", "-1 B", "1.5 MiB", "1 MB", "99999999999 GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(()), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5"), Err(()));
        assert_eq!(duration("0"), Err(()));
    }
}
