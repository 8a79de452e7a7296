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

/// A series of consecutive wrong signatures as it is stored, for all bridges that share the queue: a restart does not
/// end it, and a right signature ends it at whichever bridge that comes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SignatureRow {
    /// When written: when a signature was right, or a secret verified webhooks, since the last save; what is stored and
    /// came before that is over. `None` when read.
    pub ended_at: Option<DateTime<Utc>>,
    /// The number of wrong signatures, when written only those since the last save; 0: the last signature was right.
    pub number: u32,
    /// When the first of them came. With the number 0: when the last right signature came; `None` if a secret verified
    /// held webhooks since.
    pub first_at: Option<DateTime<Utc>>,
    /// The time between the first and the last. With the number 0: how long a series had lasted that the right signature
    /// ended; zero if there was none.
    pub lasted: Duration,
    /// Where they came from.
    pub senders: Senders,
}

impl SignatureRow {
    /// Returns what is stored once `change` is written to this row. Another bridge may have stored earlier what came after
    /// the end that `change` tells of: that goes on.
    #[must_use]
    pub fn then(self, change: Self) -> Self {
        let row = match change.ended_at {
            Some(ended_at) if self.last_at() > Some(ended_at) => self.since(ended_at),
            Some(_) => return Self { ended_at: None, ..change },
            None => self,
        };
        if change.number == 0 { row } else { row.plus(change) }
    }

    /// When the last of them came; `None` if none did.
    fn last_at(&self) -> Option<DateTime<Utc>> {
        let first_at = self.first_at.filter(|_| self.number > 0)?;
        first_at.checked_add_signed(TimeDelta::from_std(self.lasted).ok()?)
    }

    /// The part of the series after `ended_at`, at which time it had begun and was not over. How many of them came before
    /// is not known.
    fn since(self, ended_at: DateTime<Utc>) -> Self {
        let before =
            self.first_at.map(|first_at| (ended_at - first_at).to_std().unwrap_or_default()).unwrap_or_default();
        let first_at = self.first_at.max(Some(ended_at));
        Self { first_at, lasted: self.lasted.saturating_sub(before), ..self }
    }

    /// This series with more of it; what is known of its end so far stays.
    fn plus(self, more: Self) -> Self {
        if self.number == 0 {
            return Self { ended_at: self.ended_at, ..more };
        }
        let mut senders = self.senders;
        more.senders.first.iter().for_each(|address| senders.add(*address));
        senders.has_more |= more.senders.has_more;
        Self {
            ended_at: self.ended_at,
            number: self.number.saturating_add(more.number),
            first_at: self.first_at.into_iter().chain(more.first_at).min(),
            lasted: self.lasted.max(more.lasted),
            senders,
        }
    }
}

/// Consecutive webhooks with a wrong signature.
#[derive(Debug, Default)]
pub(super) struct WrongSignatures {
    /// What was stored when it was last read, and what happened here since.
    series: SignatureRow,
    /// When the first of `series` came.
    began: Option<Instant>,
    senders: Senders,
    unsaved: Option<SignatureRow>,
    /// What was stored when it was last read; `None` if it was not read yet.
    stored: Option<SignatureRow>,
    /// The longest series of the last day that ended with a correct signature: when it ended, and how long it had lasted
    /// by then.
    disproved: Option<(Instant, Duration)>,
}

const DAY: Duration = Duration::from_hours(24);

impl WrongSignatures {
    /// Counts one more wrong signature, which came at `at`. Returns whether it is the first of a series.
    pub(super) fn add(&mut self, at: DateTime<Utc>) -> bool {
        let now = Instant::now();
        let is_first = self.series.number == 0;
        let first_at = if is_first { Some(at) } else { self.series.first_at };
        let lasted = now - *self.began.get_or_insert(now);
        let one =
            SignatureRow { ended_at: None, number: 1, first_at, lasted, senders: std::mem::take(&mut self.senders) };
        self.series = std::mem::take(&mut self.series).then(one.clone());
        // All senders that are known, because one bridge saves them for all.
        let change = SignatureRow { senders: self.series.senders.clone(), ..one };
        self.unsaved = Some(self.unsaved.take().unwrap_or_default().plus(change));
        is_first
    }

    /// Adds the address that the next wrong signature comes from.
    pub(super) fn add_sender(&mut self, address: IpAddr) {
        self.senders.add(address);
    }

    /// Ends the series at `at`, because a secret verified webhooks of it.
    pub(super) fn end(&mut self, at: DateTime<Utc>) {
        self.replace(SignatureRow { ended_at: Some(at), ..SignatureRow::default() });
    }

    /// Ends the series after a correct signature at `at`, which shows that the wrong ones came from a stranger. Returns
    /// whether there was one.
    pub(super) fn disprove(&mut self, at: DateTime<Utc>) -> bool {
        let was_wrong = self.series.number > 0;
        let lasted = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.disproved_after(lasted);
        let unsaved = self.unsaved.as_ref().filter(|unsaved| unsaved.number == 0);
        let lasted = lasted.max(unsaved.map_or(Duration::ZERO, |unsaved| unsaved.lasted));
        self.replace(SignatureRow { ended_at: Some(at), first_at: Some(at), lasted, ..SignatureRow::default() });
        was_wrong
    }

    fn replace(&mut self, ended: SignatureRow) {
        (self.series, self.began, self.senders) = (SignatureRow::default(), None, Senders::default());
        self.unsaved = Some(ended);
    }

    fn disproved_after(&mut self, lasted: Duration) {
        if !lasted.is_zero() && lasted >= self.disproved_for() {
            self.disproved = Some((Instant::now(), lasted));
        }
    }

    /// Returns how long the longest series lasted that ended with a correct signature within a day; zero if none did.
    pub(super) fn disproved_for(&self) -> Duration {
        self.disproved.filter(|(at, _)| at.elapsed() < DAY).map_or(Duration::ZERO, |(_, lasted)| lasted)
    }

    /// Returns the series at `now`; the default if the last signature was right. Its times are not after `now`, even if the
    /// clock was set back since.
    pub(super) fn row(&self, now: DateTime<Utc>) -> SignatureRow {
        let Some(began) = self.began else { return SignatureRow::default() };
        let age = TimeDelta::from_std(began.elapsed()).unwrap_or_default();
        let first_at = self.series.first_at.into_iter().chain(now.checked_sub_signed(age)).min();
        SignatureRow { first_at, ..self.series.clone() }
    }

    /// Returns what changed since the last call.
    pub(super) fn take_unsaved(&mut self) -> Option<SignatureRow> {
        self.unsaved.take()
    }

    /// Records that what [`WrongSignatures::take_unsaved`] returned was not saved.
    pub(super) fn not_saved(&mut self, unsaved: Option<&SignatureRow>) {
        let Some(unsaved) = unsaved.cloned() else { return };
        self.unsaved = Some(match self.unsaved.take() {
            None => unsaved,
            Some(since) if since.ended_at.is_some() => since,
            Some(since) => unsaved.plus(since),
        });
    }

    /// Continues a series that an earlier run, or another bridge, saved. It has not lasted for longer than since it began, in
    /// case the clock was set back.
    pub(super) fn restore(&mut self, row: SignatureRow, now: DateTime<Utc>) {
        self.follow(&row, now);
        self.stored = Some(row);
    }

    /// Follows what is stored for all bridges. Returns whether a signature turned out to be right at one of them since it
    /// was read last.
    pub(super) fn follow_stored(&mut self, row: SignatureRow, now: DateTime<Utc>) -> bool {
        let is_verified = row.number == 0 && self.stored.as_ref().is_some_and(|stored| *stored != row);
        if is_verified {
            self.disproved_after(row.lasted);
        }
        self.restore(row, now);
        is_verified
    }

    fn follow(&mut self, stored: &SignatureRow, now: DateTime<Utc>) {
        let mut series = self.unsaved.iter().cloned().fold(stored.clone(), SignatureRow::then);
        let goes_on = series.number > 0 && self.series.first_at >= series.first_at;
        let known_for = self.began.filter(|_| goes_on).map_or(Duration::ZERO, |began| began.elapsed());
        let age = (now - *series.first_at.get_or_insert(now)).to_std().unwrap_or_default();
        series.lasted = series.lasted.min(age.max(known_for));
        let last = Instant::now();
        let began = last.checked_sub(series.lasted.max(known_for)).unwrap_or(last);
        self.began = (series.number > 0).then_some(began);
        self.series = series;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn row() -> SignatureRow {
        let senders = Senders { first: vec!["192.0.2.7".parse().unwrap()], has_more: false };
        SignatureRow { ended_at: None, number: 9, first_at: Some(at(100)), lasted: 6 * MINUTE, senders }
    }

    /// What is stored once one bridge has saved.
    fn saved(stored: SignatureRow, wrong: &mut WrongSignatures) -> SignatureRow {
        wrong.take_unsaved().into_iter().fold(stored, SignatureRow::then)
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
        let restored = wrong.row(at(1_000));
        assert_eq!((restored.number, restored.first_at, restored.lasted), (9, Some(at(100)), 6 * MINUTE));
        assert_eq!(wrong.take_unsaved(), None);
        assert!(!wrong.add(at(1_001)), "it is not the first");
        let more = wrong.take_unsaved().unwrap();
        assert_eq!((more.number, more.first_at, more.lasted >= row().lasted), (1, Some(at(100)), true));
        assert_eq!((more.ended_at, &more.senders), (None, &row().senders));
        wrong.not_saved(Some(&more));
        assert!(!wrong.add(at(1_002)));
        assert_eq!(saved(row(), &mut wrong).number, 11);

        assert!(wrong.disprove(at(1_003)));
        assert_eq!(wrong.row(at(1_003)), SignatureRow::default());
        assert!(wrong.disproved_for() >= 6 * MINUTE);
        assert!(!wrong.disprove(at(1_004)), "there was none");
        let ended = saved(row(), &mut wrong);
        assert_eq!((ended.number, ended.first_at), (0, Some(at(1_004))));
        assert!(ended.lasted >= 6 * MINUTE, "it is not forgotten before it is saved");
        assert!(wrong.add(at(1_005)));
        assert_eq!(saved(ended, &mut wrong).number, 1);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_row_no_longer_than_it_can_be() {
        let mut wrong = WrongSignatures::default();
        wrong.restore(row(), at(50));
        let restored = wrong.row(at(50));
        assert!(restored.first_at.unwrap() <= at(50));
        assert_eq!(restored.lasted, Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_a_row_that_goes_on_no_shorter() {
        let mut wrong = WrongSignatures::default();
        wrong.restore(row(), at(1_000));
        for _ in 0..2 {
            wrong.follow_stored(row(), at(50));
            let row = wrong.row(at(50));
            assert!(row.first_at.unwrap() <= at(50 - 360) && row.lasted == 6 * MINUTE, "{row:?}");
        }
    }

    #[test]
    fn bridges_that_share_a_row_add_to_it_and_each_of_them_ends_it() {
        let [mut one, mut other, mut third] = [(); 3].map(|()| WrongSignatures::default());
        for bridge in [&mut one, &mut other, &mut third] {
            bridge.restore(SignatureRow::default(), at(0));
        }
        one.add_sender("192.0.2.1".parse().unwrap());
        one.add(at(1));
        other.add_sender("192.0.2.2".parse().unwrap());
        other.add(at(2));
        let stored = saved(saved(SignatureRow::default(), &mut other), &mut one);
        assert_eq!((stored.number, stored.first_at), (2, Some(at(1))));
        assert_eq!(stored.senders.addresses(), "192.0.2.2,192.0.2.1");
        one.add(at(3));
        for (bridge, number) in [(&mut one, 3), (&mut other, 2), (&mut third, 2)] {
            assert!(!bridge.follow_stored(stored.clone(), at(3)));
            assert_eq!(bridge.row(at(3)).number, number, "what is not saved yet counts as well");
        }

        // The third one has not seen any of them.
        other.began = Instant::now().checked_sub(6 * MINUTE);
        other.disprove(at(400));
        let stored = saved(saved(stored, &mut one), &mut other);
        assert_eq!(stored.number, 0);
        for bridge in [&mut one, &mut third] {
            assert!(bridge.follow_stored(stored.clone(), at(401)), "a signature was right");
            assert_eq!(bridge.row(at(401)), SignatureRow::default());
            assert!(bridge.disproved_for() >= 6 * MINUTE);
            assert!(!bridge.follow_stored(stored.clone(), at(402)), "it is known already");
        }
        other.disprove(at(500));
        assert!(third.follow_stored(saved(stored, &mut other), at(501)), "and another one");
    }

    #[test]
    fn a_right_signature_that_is_saved_late_ends_only_what_came_before_it() {
        let (mut one, mut other) = (WrongSignatures::default(), WrongSignatures::default());
        one.disprove(at(10));
        other.add(at(11));
        let stored = saved(SignatureRow::default(), &mut other);
        one.restore(stored.clone(), at(12));
        assert_eq!(one.row(at(12)).number, 1);
        assert_eq!(saved(stored.clone(), &mut one), stored);
        other.disprove(at(11));
        assert_eq!(saved(stored, &mut other).number, 0);

        let change = |second| SignatureRow { ended_at: Some(at(second)), ..SignatureRow::default() };
        let series =
            |second, minutes: u32| SignatureRow { first_at: Some(at(second)), lasted: minutes * MINUTE, ..row() };
        assert_eq!(series(100, 6).then(change(160)), series(160, 5));
        assert_eq!(series(100, 6).then(change(40)), series(100, 6));
        assert_eq!(series(100, 6).then(change(460)).number, 0);
        let more = SignatureRow { number: 2, lasted: Duration::ZERO, first_at: Some(at(900)), ..change(700) };
        let senders = more.senders.clone();
        let after =
            SignatureRow { ended_at: None, number: 2, lasted: Duration::ZERO, first_at: Some(at(900)), senders };
        assert_eq!(series(100, 6).then(more), after);
    }

    #[test]
    fn a_secret_that_verifies_what_was_wrong_shows_no_stranger() {
        let (mut one, mut other) = (WrongSignatures::default(), WrongSignatures::default());
        one.restore(row(), at(1_000));
        other.restore(row(), at(1_000));
        one.end(at(1_000));
        assert!(other.follow_stored(saved(row(), &mut one), at(1_001)));
        assert_eq!((other.row(at(1_001)).number, other.disproved_for()), (0, Duration::ZERO));
    }
}
