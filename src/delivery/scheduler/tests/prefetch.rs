//! Which part of the queue is loaded.

use super::*;

fn small() -> DeliveryLimits {
    DeliveryLimits { prefetch: 4, ..limits() }
}

/// Events with these numbers, each of its own incident.
fn page(ids: std::ops::RangeInclusive<i64>) -> Vec<WaitingEvent> {
    ids.map(|id| waiting(id, &id.to_string())).collect()
}

#[test]
fn what_finds_no_room_is_read_when_half_of_the_window_is_free() {
    let mut bench = Bench::new(DeliveryLimits { in_flight_per_key: 1, ..small() });
    for id in 1..=9 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1]);
    assert_eq!(bench.loads(), None, "three of four are still waiting");
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [2]);
    assert_eq!(bench.loads(), Some(4));
    bench.loaded(&page(5..=8), false);
    for id in 2..=7 {
        assert_eq!(bench.loads(), (id == 6).then_some(8));
        bench.ends(id, &delivered());
        assert_eq!(bench.sends(), [id + 1]);
    }
}

#[test]
fn an_event_that_arrives_while_a_page_is_read_is_not_missed_and_not_sent_twice() {
    let mut bench = Bench::new(small());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.arrives(2, "2");
    bench.loaded(&page(1..=1), true);
    assert_eq!(bench.loads(), Some(1), "the page may have been read before the event was committed");
    bench.loaded(&page(2..=2), true);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(2, &delivered());
    bench.arrives(2, "2");
    bench.arrives(3, "3");
    assert_eq!(bench.sends(), [3]);
}

#[test]
fn a_page_that_could_not_be_read_is_asked_for_again() {
    let mut bench = Bench::new(small());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    assert_eq!(bench.waits(), None, "one page at a time");
    bench.scheduler.not_loaded(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
}

#[test]
fn what_waits_behind_a_blocked_incident_takes_no_room_from_others() {
    let mut bench = Bench::new(small());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    let line: Vec<_> = (1..=4).map(|id| waiting(id, "blocked")).collect();
    bench.loaded(&line, false);
    assert_eq!(bench.loads(), Some(4), "one event can leave, and there is room for others");
    bench.loaded(&page(5..=5), true);
    assert_eq!(bench.sends(), [1, 5]);
}

#[test]
fn failed_events_take_no_room_from_others() {
    let mut bench = Bench::new(small());
    for id in 1..=4 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.sends(), [1, 2, 3, 4]);
    for id in 1..=4 {
        bench.ends(id, &error());
    }
    bench.arrives(5, "5");
    assert_eq!(bench.sends(), [5]);
    assert_eq!(bench.loads(), None, "it was taken in at once");
}

#[test]
fn after_a_reread_an_event_that_was_put_back_leaves_before_the_later_ones_of_its_incident() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "a");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &refused());
    for (id, incident) in [(2, "b"), (3, "a"), (4, "a")] {
        bench.arrives(id, incident);
    }
    bench.scheduler.reread(&service_key(0));
    assert_eq!(bench.loads(), Some(0), "from the beginning");
    bench.loaded(&[waiting(1, "a"), waiting(2, "b"), waiting(3, "a"), waiting(4, "a")], true);
    assert_eq!(bench.sends(), [1, 2]);
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [3]);
}

#[test]
fn a_reread_does_not_disturb_an_attempt_in_flight() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "a");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &refused());
    bench.arrives(2, "a");
    bench.arrives(3, "a");
    assert_eq!(bench.sends(), [2]);
    bench.scheduler.reread(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.loaded(&[waiting(1, "a"), waiting(2, "a"), waiting(3, "a")], true);
    assert_eq!(bench.sends(), [] as [i64; 0], "the incident has an attempt in flight");
    bench.ends(2, &error());
    assert_eq!(bench.sends(), [1], "now the older one goes first");
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [2]);
    bench.ends(2, &delivered());
    assert_eq!(bench.sends(), [3]);
}

#[test]
fn a_reread_during_the_reading_of_a_page_begins_again_after_it() {
    let mut bench = Bench::new(limits());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.scheduler.reread(&service_key(0));
    bench.loaded(&page(2..=2), true);
    assert_eq!(bench.loads(), Some(0));
    bench.loaded(&page(1..=2), true);
    assert_eq!(bench.sends(), [1, 2]);
}

#[test]
fn a_reread_reads_what_was_held_before_even_when_there_is_no_room() {
    let mut bench = Bench::new(DeliveryLimits { in_flight: 0, ..small() });
    for id in 2..=9 {
        bench.arrives(id, &id.to_string());
    }
    assert_eq!(bench.waits(), None);
    bench.scheduler.reread(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.loaded(&page(1..=4), false);
    assert_eq!(bench.loads(), Some(4));
    bench.loaded(&page(5..=8), false);
    assert_eq!(bench.loads(), None, "what comes behind was not loaded, and there is no room for it");
}

#[test]
fn a_quarantined_event_that_was_reset_is_tried_at_once_after_a_reread() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    bench.passes(2);
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    for (blamed, sent) in [(seconds(1), vec![]), (Duration::ZERO, vec![1])] {
        bench.scheduler.reread(&service_key(0));
        assert_eq!(bench.loads(), Some(0));
        bench.loaded(&[WaitingEvent { attempts: 2, blamed, ..waiting(1, "1") }], true);
        assert_eq!(bench.sends(), sent, "{blamed:?}");
    }
}

#[test]
fn an_event_that_an_unknown_one_goes_before_waits_until_that_is_read() {
    let mut bench = Bench::new(limits());
    bench.arrives(2, "a");
    bench.arrives(3, "b");
    bench.arrives(4, "b");
    assert_eq!(bench.sends(), [2, 3]);
    bench.scheduler.blocked(&service_key(0), EventId::new(2));
    assert_eq!((bench.scheduler.in_flight(), bench.loads()), (1, Some(0)));
    bench.ends(3, &delivered());
    assert_eq!(bench.sends(), [4], "its incident alone stands still");
    bench.loaded(&[waiting(1, "a"), waiting(2, "a")], true);
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &delivered());
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn an_event_that_was_said_to_be_behind_one_that_is_gone_goes_on() {
    let mut bench = Bench::new(limits());
    bench.arrives(2, "a");
    assert_eq!(bench.sends(), [2]);
    bench.scheduler.blocked(&service_key(0), EventId::new(2));
    assert_eq!(bench.loads(), Some(0));
    bench.scheduler.not_loaded(&service_key(0));
    assert_eq!(bench.loads(), Some(0), "it is read again");
    bench.loaded(&[waiting(2, "a")], true);
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn what_is_looked_for_while_a_page_is_being_read_is_read_after_it() {
    let mut bench = Bench::new(limits());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.scheduler.read_on(&service_key(0));
    bench.loaded(&page(1..=2), true);
    assert_eq!(bench.loads(), Some(2));
}

#[test]
fn a_page_that_cannot_be_read_in_part_is_read_on_behind_its_end() {
    let mut bench = Bench::new(small());
    bench.scheduler.read_on(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    let unreadable = Page { end: Some(EventId::new(4)), ..Page::default() };
    bench.scheduler.loaded(&service_key(0), &unreadable);
    assert_eq!(bench.loads(), Some(4));
    bench.loaded(&page(5..=6), true);
    assert_eq!(bench.sends(), [5, 6]);
}

#[test]
fn a_page_that_is_older_than_a_failure_resets_no_event() {
    let mut bench = Bench::new(limits());
    bench.arrives(1, "1");
    assert_eq!(bench.sends(), [1]);
    bench.ends(1, &error());
    bench.passes(2);
    assert_eq!(bench.sends(), [1]);
    bench.scheduler.reread(&service_key(0));
    assert_eq!(bench.loads(), Some(0));
    bench.ends(1, &error());
    bench.loaded(&[WaitingEvent { attempts: 2, ..waiting(1, "1") }], true);
    assert_eq!(bench.sends(), [] as [i64; 0]);
}
