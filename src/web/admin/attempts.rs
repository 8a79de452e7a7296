//! How many wrong tokens are answered before the answer is to wait. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Counts wrong tokens by the minute: of one peer, and of all together.
///
/// It takes little memory however many peers there are, for no more are counted than the total allows.
#[derive(Debug, Default)]
pub struct Attempts {
    begun_at: DateTime<Utc>,
    total: u32,
    by_peer: HashMap<IpAddr, u32>,
}

impl Attempts {
    /// How many of one peer are answered in a minute.
    pub const PER_PEER: u32 = 5;

    /// How many are answered in a minute in all.
    pub const IN_TOTAL: u32 = 100;

    const WINDOW: TimeDelta = TimeDelta::minutes(1);

    /// Counts a wrong token of `peer`.
    ///
    /// # Errors
    ///
    /// When there were too many already: how long until they are counted from zero again.
    pub fn failed(&mut self, peer: IpAddr, now: DateTime<Utc>) -> Result<(), Duration> {
        let passed = now - self.begun_at;
        // A clock that was set back begins anew as well.
        if self.total == 0 || passed < TimeDelta::zero() || passed >= Self::WINDOW {
            *self = Self { begun_at: now, ..Self::default() };
        }
        let left = (self.begun_at + Self::WINDOW - now).to_std().unwrap_or_default();
        let peer = neighbourhood(peer);
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or_default();
        if self.total >= Self::IN_TOTAL || of_peer >= Self::PER_PEER {
            return Err(left);
        }
        self.total += 1;
        self.by_peer.insert(peer, of_peer + 1);
        Ok(())
    }
}

/// One host of IPv6 has a whole /64 to itself.
fn neighbourhood(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_five_a_minute_and_others_have_theirs() {
        let mut attempts = Attempts::default();
        for second in 0..5 {
            assert_eq!(attempts.failed(peer("192.0.2.1"), at(100 + second)), Ok(()));
        }
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(110)), Err(Duration::from_secs(50)));
        assert_eq!(attempts.failed(peer("::ffff:192.0.2.1"), at(159)), Err(Duration::from_secs(1)));
        assert_eq!(attempts.failed(peer("192.0.2.2"), at(159)), Ok(()));
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(160)), Ok(()));
    }

    #[test]
    fn all_together_have_a_hundred_a_minute_and_no_more_are_remembered() {
        let mut attempts = Attempts::default();
        for host in 0..100_000_u32 {
            let expected = if host < Attempts::IN_TOTAL { Ok(()) } else { Err(Duration::from_mins(1)) };
            assert_eq!(attempts.failed(IpAddr::V4(host.into()), at(0)), expected);
        }
        assert_eq!(attempts.by_peer.len(), 100);
    }

    #[test]
    fn a_host_with_many_addresses_is_one_peer() {
        let mut attempts = Attempts::default();
        for host in 1..=5 {
            assert_eq!(attempts.failed(peer(&format!("2001:db8::{host}")), at(0)), Ok(()));
        }
        assert!(attempts.failed(peer("2001:db8::6"), at(0)).is_err());
        assert_eq!(attempts.failed(peer("2001:db8:0:1::1"), at(0)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut attempts = Attempts::default();
        for _ in 0..6 {
            let _ = attempts.failed(peer("192.0.2.1"), at(1_000));
        }
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(10)), Ok(()));
    }
}
