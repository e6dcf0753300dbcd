//! A time as people read it: two digits that say something.

use std::{fmt, time::Duration};

/// Shown as `1.2 s`, `812 ms`, `61 ms`, `2.4 ms`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took(pub(super) Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let millis = seconds * 1000.0;
        match () {
            () if seconds >= 10.0 => write!(f, "{seconds:.0} s"),
            () if seconds >= 0.9995 => write!(f, "{seconds:.1} s"),
            () if millis >= 9.95 => write!(f, "{millis:.0} ms"),
            () => write!(f, "{millis:.1} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_and_the_unit() {
        for (micros, shown) in [
            (400, "0.4 ms"),
            (2_449, "2.4 ms"),
            (9_960, "10 ms"),
            (61_200, "61 ms"),
            (812_000, "812 ms"),
            (999_700, "1.0 s"),
            (1_879_000, "1.9 s"),
            (61_000_000, "61 s"),
        ] {
            assert_eq!(Took(Duration::from_micros(micros)).to_string(), shown);
        }
    }
}
