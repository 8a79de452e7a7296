//! How fast payloads are posted.

use std::str::FromStr;
use std::time::Duration;

/// So many posts per second, minute or hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    interval: Duration,
}

impl Rate {
    /// The time from one post to the next.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.interval
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no rate: write it like 10/s, 120/m or 0.5/s");
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(number > 0.0 && number <= 1e6) {
            return Err(wrong());
        }
        Duration::try_from_secs_f64(seconds / number).map(|interval| Self { interval }).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_per_second_minute_or_hour() {
        let interval = |text: &str| text.parse::<Rate>().map(Rate::interval);
        assert_eq!(interval("10/s"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("120/m"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("0.5"), Ok(Duration::from_secs(2)));
        assert_eq!(interval("1/h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "0/s", "-1/s", "ten/s", "10/d", "inf/s", "NaN/s", "1e-300/h"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
