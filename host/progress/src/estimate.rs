// SPDX-License-Identifier: GPL-2.0

//! How long something still takes.

use std::{fmt, str::FromStr, time::Duration};

/// So many units in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub units: u64,
    pub time: Duration,
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let parts = parts.and_then(|(units, time)| Some((units.parse().ok()?, time.parse().ok()?)));
        let (units, seconds) = parts.ok_or("not of the form UNITS:SECONDS")?;
        let time = Duration::from_secs(seconds);
        Ok(Self { units, time })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}:{}", self.units, self.time.as_secs())
    }
}

/// Where a command is.
pub struct Estimate {
    pub expected: Work,
    /// How many units are done, where that can be told.
    pub done: Option<u64>,
    pub elapsed: Duration,
}

impl Estimate {
    /// What is left. The pace tells little in the beginning, when there is what was expected.
    /// Nothing if it takes longer than that, or is more.
    fn left(&self) -> Option<Duration> {
        let Self {
            expected, elapsed, ..
        } = *self;
        let fraction = match self.done {
            Some(done) if expected.units != 0 => done as f64 / expected.units as f64,
            _ => 0.0,
        };
        let is_late = elapsed >= expected.time;
        match fraction {
            1.0.. => None,
            0.5.. => Some(elapsed.mul_f64((1.0 - fraction) / fraction)),
            0.1.. if is_late => Some(elapsed.mul_f64((1.0 - fraction) / fraction)),
            _ => expected.time.checked_sub(elapsed),
        }
    }
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// A duration as people say it.
pub fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..90 => format!("{} seconds", seconds.max(1)),
        seconds => format!("{} minutes", (seconds + 30) / 60),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        if let Some(done) = self.done {
            write!(to, "{done} of {}, ", self.expected.units.max(done))?;
        }
        write!(to, "{} elapsed, ", clock(self.elapsed))?;
        match self.left() {
            Some(left) => write!(to, "about {} left", clock(left)),
            None => write!(to, "longer than expected"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(units: u64, done: Option<u64>, elapsed: u64) -> String {
        let time = Duration::from_secs(600);
        let expected = Work { units, time };
        let elapsed = Duration::from_secs(elapsed);
        let estimate = Estimate {
            expected,
            done,
            elapsed,
        };
        estimate.to_string()
    }

    #[test]
    fn what_is_left_follows_the_pace() {
        assert_eq!(
            estimate(100, Some(0), 0),
            "0 of 100, 0:00 elapsed, about 10:00 left"
        );
        assert_eq!(
            estimate(100, Some(50), 300),
            "50 of 100, 5:00 elapsed, about 5:00 left"
        );
        // Twice as slow as expected.
        assert_eq!(
            estimate(100, Some(90), 1080),
            "90 of 100, 18:00 elapsed, about 2:00 left"
        );
    }

    #[test]
    fn what_was_expected_serves_until_there_is_a_pace() {
        assert_eq!(
            estimate(100, Some(10), 200),
            "10 of 100, 3:20 elapsed, about 6:40 left"
        );
        assert_eq!(
            estimate(100, Some(20), 600),
            "20 of 100, 10:00 elapsed, about 40:00 left"
        );
    }

    #[test]
    fn more_than_expected_is_said() {
        assert_eq!(
            estimate(100, Some(120), 700),
            "120 of 120, 11:40 elapsed, longer than expected"
        );
        assert_eq!(estimate(0, None, 60), "1:00 elapsed, about 9:00 left");
        assert_eq!(
            estimate(0, None, 601),
            "10:01 elapsed, longer than expected"
        );
    }

    #[test]
    fn work_is_read_as_it_is_written() {
        let work: Work = "1431:480".parse().unwrap();
        assert_eq!(work.to_string(), "1431:480");
        assert!("1431".parse::<Work>().is_err());
    }

    #[test]
    fn durations_are_rounded() {
        assert_eq!(rounded(Duration::from_secs(0)), "1 seconds");
        assert_eq!(rounded(Duration::from_secs(89)), "89 seconds");
        assert_eq!(rounded(Duration::from_secs(599)), "10 minutes");
    }
}
