//! Consecutive webhooks with a wrong signature.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// The addresses of the peers of connections; headers such as `X-Forwarded-For` are ignored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Senders {
    /// The first few, each once.
    pub first: Vec<IpAddr>,
    /// Whether there were more.
    pub has_more: bool,
}

impl Senders {
    const MAX_LISTED: usize = 5;

    /// The addresses, separated by commas.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.first.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Parses the text of [`Senders::addresses`]; entries that are not addresses are left out.
    #[must_use]
    pub fn of_addresses(text: &str, has_more: bool) -> Self {
        let addresses = text.split(',').filter_map(|address| address.parse().ok());
        Self { first: addresses.take(Self::MAX_LISTED).collect(), has_more }
    }

    fn add(&mut self, address: IpAddr) {
        if self.first.contains(&address) {
            return;
        }
        if self.first.len() < Self::MAX_LISTED {
            self.first.push(address);
        } else {
            self.has_more = true;
        }
    }
}

/// A series of consecutive wrong signatures as it is stored, so that a restart does not end it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SignatureRow {
    /// The number of wrong signatures; 0: the series has ended.
    pub number: u32,
    /// When the first of them came.
    pub first_at: Option<DateTime<Utc>>,
    /// The time between the first and the last.
    pub lasted: Duration,
    /// Where they came from.
    pub senders: Senders,
}

/// Consecutive webhooks with a wrong signature.
#[derive(Debug, Default)]
pub(super) struct WrongSignatures {
    number: u32,
    first_at: Option<DateTime<Utc>>,
    /// When the first and the last of them came.
    span: Option<(Instant, Instant)>,
    senders: Senders,
    is_unsaved: bool,
    /// The longest series of the last day that ended with a correct signature: when it ended, and how long it had lasted
    /// by then.
    disproved: Option<(Instant, Duration)>,
}

const DAY: Duration = Duration::from_hours(24);

impl WrongSignatures {
    /// Counts one more wrong signature, which came at `at`.
    pub(super) fn add(&mut self, at: DateTime<Utc>) {
        let now = Instant::now();
        self.number = self.number.saturating_add(1);
        self.first_at.get_or_insert(at);
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        self.is_unsaved = true;
    }

    /// Adds the address that the next wrong signature comes from.
    pub(super) fn add_sender(&mut self, address: IpAddr) {
        self.senders.add(address);
    }

    /// Ends the series.
    pub(super) fn end(&mut self) {
        let is_unsaved = self.is_unsaved || self.number > 0;
        *self = Self { is_unsaved, disproved: self.disproved, ..Self::default() };
    }

    /// Ends the series after a correct signature, which shows that the wrong ones came from a stranger.
    pub(super) fn disprove(&mut self) {
        if let Some((first, _)) = self.span {
            let (now, longest) = (Instant::now(), self.disproved_for());
            if now - first >= longest {
                self.disproved = Some((now, now - first));
            }
        }
        self.end();
    }

    /// Returns how long the longest series lasted that ended with a correct signature within a day; zero if none did.
    pub(super) fn disproved_for(&self) -> Duration {
        self.disproved.filter(|(at, _)| at.elapsed() < DAY).map_or(Duration::ZERO, |(_, lasted)| lasted)
    }

    pub(super) fn row(&self) -> SignatureRow {
        let lasted = self.span.map_or(Duration::ZERO, |(first, last)| last - first);
        SignatureRow { number: self.number, first_at: self.first_at, lasted, senders: self.senders.clone() }
    }

    /// Returns the series, if it changed since the last call.
    pub(super) fn take_unsaved(&mut self) -> Option<SignatureRow> {
        std::mem::take(&mut self.is_unsaved).then(|| self.row())
    }

    /// Records that what [`WrongSignatures::take_unsaved`] returned was not saved.
    pub(super) fn not_saved(&mut self, unsaved: Option<&SignatureRow>) {
        self.is_unsaved |= unsaved.is_some();
    }

    /// Continues a series that an earlier run saved. Its times are limited to `now`, in case the clock was set back.
    pub(super) fn restore(&mut self, row: SignatureRow, now: DateTime<Utc>) {
        if row.number == 0 || self.number > 0 {
            return;
        }
        let last = Instant::now();
        let first_at = row.first_at.unwrap_or(now).min(now);
        let lasted = row.lasted.min((now - first_at).max(TimeDelta::zero()).to_std().unwrap_or_default());
        *self = Self {
            number: row.number,
            first_at: Some(first_at),
            span: Some((last.checked_sub(lasted).unwrap_or(last), last)),
            senders: row.senders,
            is_unsaved: false,
            disproved: self.disproved,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn row() -> SignatureRow {
        let senders = Senders { first: vec!["192.0.2.7".parse().unwrap()], has_more: false };
        SignatureRow { number: 9, first_at: Some(at(100)), lasted: Duration::from_mins(6), senders }
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let first = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().unwrap()).to_vec();
        let senders = Senders { first, has_more: true };
        assert_eq!(Senders::of_addresses(&senders.addresses(), true), senders);
        assert_eq!(Senders::of_addresses("", false), Senders::default());
    }

    #[test]
    fn a_row_goes_on_after_a_restart_until_a_signature_is_right() {
        let mut wrong = WrongSignatures::default();
        wrong.restore(row(), at(1_000));
        assert_eq!((wrong.row(), wrong.take_unsaved()), (row(), None));
        wrong.add(at(1_001));
        let going_on = wrong.take_unsaved().unwrap();
        assert_eq!((going_on.number, going_on.first_at, going_on.lasted >= row().lasted), (10, Some(at(100)), true));
        wrong.not_saved(Some(&going_on));
        assert!(wrong.take_unsaved().is_some());
        wrong.end();
        assert_eq!((wrong.row(), wrong.take_unsaved()), (SignatureRow::default(), Some(SignatureRow::default())));
        wrong.end();
        assert_eq!(wrong.take_unsaved(), None, "nothing changed");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_row_no_longer_than_it_can_be() {
        let mut wrong = WrongSignatures::default();
        wrong.restore(row(), at(50));
        assert_eq!((wrong.row().first_at, wrong.row().lasted), (Some(at(50)), Duration::ZERO));
    }
}
