//! Sizes (`"64MiB"`), durations (`"500ms"`) and counts as people write them in settings.

use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fmt, time::Duration};

/// A number of bytes, written with a unit: `"64MiB"`, `"10MB"`, `"512B"`. A bare number is not taken, since its unit would be a guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `mib` times 2^20 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The size as an index type; sizes above the address space are cut to it.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unitless = text.trim().chars().all(|c| c.is_ascii_digit());
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if !unitless => Ok(Self(size.as_u64())),
            _ => Err(format!("`{text}` is not a size; write a number and a unit, such as \"64MiB\"")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a size or a length of time of which zero would make no sense.
pub(super) fn not_zero<'de, D: Deserializer<'de>, T: Deserialize<'de> + Zero>(input: D) -> Result<T, D::Error> {
    let value = T::deserialize(input)?;
    if value.is_zero() { Err(D::Error::custom("zero is not allowed here; write a size or a time above zero")) } else { Ok(value) }
}

/// What can be zero.
pub(super) trait Zero {
    /// Whether it is.
    fn is_zero(&self) -> bool;
}

impl Zero for ByteSize {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Zero for Span {
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

/// A length of time, written with a unit: `"500ms"`, `"10s"`, `"2min"`. At most 366 days, so that adding it to a clock cannot overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match humantime::parse_duration(&text) {
            Ok(span) if span > LONGEST => Err(format!("`{text}` is longer than 366 days")),
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(format!("`{text}` is not a duration; write a number and a unit, such as \"500ms\" or \"10s\"")),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number from 1 to 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Count(pub u32);

impl Count {
    /// The number as an index type.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(count: i64) -> Result<Self, String> {
        match u32::try_from(count) {
            Ok(count @ 1..=65_536) => Ok(Self(count)),
            _ => Err(format!("{count} is out of range, 1 to 65536 are allowed")),
        }
    }
}

/// A share from above 0 to 1, kept in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(u32);

impl Share {
    /// `percent` of 100.
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// Whether `part` of `whole` is this share or more.
    pub fn is_reached_by(self, part: u64, whole: u64) -> bool {
        whole > 0 && u128::from(part) * 1_000_000 >= u128::from(self.0) * u128::from(whole)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(format!("{share} is no share; write a number above 0 and up to 1, such as 0.5 for half"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million, as was checked")]
        Ok(Self((share * 1_000_000.0).ceil() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(ByteSize::try_from("64MiB".to_owned()), Ok(ByteSize(64 << 20)));
        assert_eq!(ByteSize::try_from("10MB".to_owned()), Ok(ByteSize(10_000_000)));
        for bad in ["64", "", "many", "-1MiB"] {
            assert!(ByteSize::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(ByteSize::mib(64).to_string(), "64MiB");
    }

    #[test]
    fn durations_need_a_unit_and_an_end() {
        assert_eq!(Span::try_from("500ms".to_owned()), Ok(Span(Duration::from_millis(500))));
        for bad in ["10", "", "soon", "-1s", "900000d"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
