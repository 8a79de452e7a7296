//! How the pages look, as snapshots.

pub(in crate::web) mod samples;

use std::sync::Arc;

use insta::assert_snapshot;
use maud::Markup;

use self::samples::{dead, degraded, frame, hostile, now, record, rejected, snapshot, well};
use super::detail;
use super::forms::{self, EntryTarget};
use super::layout::{ICON, SCRIPT, STYLE};
use super::notice::ActionNotice;
use super::overview::{self, StatusLists, StatusPage};
use crate::canary::{CanaryProgress, CanaryStatus, RoundTrip};
use crate::monitor::snapshot::FallbackView;
use crate::monitor::{Cause, Health, Trouble};
use crate::pagerduty::{KeyNames, ProofState};
use crate::queue::{Durability, EventId, Proof, RejectedId, RejectedWebhook, Survives};
use crate::sentry_api::SentryApiError;
use crate::sentry_api::audit::AuditStatus;

/// Returns a page with one line per element, so that a diff shows where it changed, and without the digests of its
/// assets.
fn lines(page: &Markup) -> String {
    let page = page.0.replace("><", ">\n<");
    page.replace(STYLE.path(), "STYLE").replace(SCRIPT.path(), "SCRIPT").replace(ICON.path(), "ICON")
}

#[test]
fn a_bridge_that_is_well() {
    assert_snapshot!(lines(&overview::page(&frame(), &well())));
}

#[test]
fn a_bridge_to_which_nothing_has_come_yet() {
    let status = StatusPage {
        snapshot: snapshot(),
        health: Health::Healthy,
        troubles: Vec::new(),
        lists: Some(StatusLists::default()),
        notice: None,
    };
    assert_snapshot!(lines(&overview::page(&frame(), &status)));
}

#[test]
fn a_bridge_that_is_degraded() {
    assert_snapshot!(lines(&overview::page(&frame(), &degraded())));
}

#[test]
fn pagerduty_is_not_blamed_for_events_that_wait_for_their_turn() {
    let mut status = degraded();
    status.troubles = Vec::new();
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("Events are waiting because PagerDuty throttles or fails."), "{page}");
    status.snapshot.delivery = well().snapshot.delivery;
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("Events have been waiting for more than a minute: more came than the rate allows"), "{page}");
}

#[test]
fn a_database_that_may_lose_what_was_answered_stands_out() {
    let mut status = well();
    let page = |status: &StatusPage| overview::page(&frame(), status).into_string();
    assert!(!page(&status).contains("empty slow"));
    let settings = vec![("fsync", "off".to_owned()), ("synchronous_standby_names", String::new())];
    status.snapshot.durability = Some(Durability { survives: Survives::Nothing, settings });
    let page = page(&status);
    assert!(page.contains("<p class=\"empty slow\">A crash of the database's machine may lose alerts"), "{page}");
    assert!(page.contains("<code>fsync=off</code>, <code>synchronous_standby_names=''</code>"), "{page}");
}

#[test]
fn a_bridge_that_is_failing_and_whose_queue_cannot_be_read() {
    let mut status = degraded();
    status.snapshot.queue = Err(crate::queue::QueueError::Closed);
    status.snapshot.durability = None;
    status.health = Health::Failing;
    status.troubles = vec![Trouble {
        cause: Cause::Storage,
        health: Health::Failing,
        sentence: "alerts cannot be committed: the disk is full".to_owned(),
    }];
    status.lists = None;
    status.notice = Some(ActionNotice::Discarded(1).line(&[], None));
    assert_snapshot!(lines(&overview::page(&frame(), &status)));
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut status = well();
    assert!(!overview::page(&frame(), &status).0.contains("Unreadable"));
    status.snapshot.delivery.unreadable.events = 1_200;
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("<dt>Unreadable</dt><dd>1,200<small>quarantined</small></dd>"), "{page}");
}

#[test]
fn the_canary_is_shown_with_its_time_and_the_audit_with_its_remedies_and_its_token() {
    let mut status = well();
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("Canary: off. With <code>BRIDGE_CANARY_DSN</code> set"), "{page}");
    assert!(
        page.contains("Audit: off. With <code>BRIDGE_SENTRY_URL</code>") && !page.contains("Sentry → bridge"),
        "{page}"
    );

    let (sent_at, returned_at) = (samples::ago(74), samples::ago(70));
    let last = Some(RoundTrip { sent_at, returned_at });
    let canary = CanaryStatus { last, last_sent_at: Some(sent_at), progress: CanaryProgress::Returns };
    status.snapshot.canary = Some(Ok(canary));
    let audit = || AuditStatus { last: Some(Arc::new(samples::audit())), failure: None };
    status.snapshot.audit = Some(audit());
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("<dt>Sentry → bridge</dt><dd>4.0 s<small>"), "{page}");
    assert!(page.contains("1 min ago") && page.contains("Canary: comes back"), "{page}");
    assert!(
        page.contains("Audit: 0 of 1 project pages, 21 findings.") && page.contains("<span class=\"badge\">21</span>"),
        "{page}"
    );
    assert!(page.contains("with the token of <span dir=\"auto\">member@example.com</span>"), "{page}");
    assert!(
        page.contains("shop: no rule of it calls the bridge") && page.contains("remedy: run `connect --project`"),
        "{page}"
    );
    assert!(page.contains("1 more finding: run <code>audit</code>"), "{page}");

    let error = SentryApiError::Forbidden { call: "GET /api/0/<b>/".to_owned(), scope: "org:read" };
    status.snapshot.audit = Some(AuditStatus { failure: Some((samples::ago(5), error)), ..audit() });
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("The audit failed") && page.contains("GET /api/0/&lt;b&gt;/ (403)"), "{page}");
    assert!(page.contains("21 findings"), "what was found before is shown: {page}");
}

#[test]
fn a_fallback_webhook_is_shown_where_there_is_one_and_marked_when_it_fails() {
    let mut status = well();
    assert!(!overview::page(&frame(), &status).0.contains("Fallback webhook"));
    status.snapshot.fallback = Some(FallbackView::default());
    let page = overview::page(&frame(), &status).0;
    assert!(
        page.contains("<div class=\"\" id=\"fallback\"><dt>Fallback webhook</dt><dd>not needed yet</dd></div>"),
        "{page}"
    );
    let (last_told_at, outage_since) = (Some(now()), Some(now()));
    let failure = Some("chat.example.com: answered 500".to_owned());
    status.snapshot.fallback = Some(FallbackView { last_told_at, outage_since, failure });
    let page = overview::page(&frame(), &status).0;
    assert!(
        page.contains("<div class=\"alert\" id=\"fallback\"><dt>Fallback webhook</dt><dd>notified of the outage "),
        "{page}"
    );
    assert!(page.contains("<small>failing: chat.example.com: answered 500</small>"), "{page}");
}

#[test]
fn what_strangers_write_stays_text() {
    let mut status = well();
    let lists = status.lists.get_or_insert_default();
    lists.recent.entries = vec![samples::from_shop(hostile())];
    lists.dead.entries = vec![samples::from_shop(hostile())];
    let page = overview::page(&frame(), &status).0;
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"), "{page}");
    assert!(!page.contains("<img") && !page.contains("<script>") && !page.contains("'onmouseover"), "{page}");
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'), "{page}");
}

#[test]
fn no_page_holds_a_style_a_script_or_a_handler_of_its_own() {
    let pages = [
        overview::page(&frame(), &well()),
        overview::page(&frame(), &degraded()),
        detail::event(&frame(), &record(&hostile()), &KeyNames::default(), None),
        forms::log_in(&frame(), "/", Some("the token is wrong")),
        forms::confirm(&frame(), EntryTarget::DeadLetters, 3, Some(9)),
    ];
    for page in pages {
        let page = page.0;
        assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains("javascript:"), "{page}");
        assert_eq!(page.matches("<script").count(), page.matches("<script defer src=\"/assets/app-").count());
        for tag in page.split('<').filter_map(|part| part.split('>').next()) {
            assert!(!tag.contains(" on"), "{tag}");
        }
    }
}

#[test]
fn what_pagerduty_shows_of_an_event_is_told_and_its_texts_are_harmless() {
    let record = record(&dead());
    let key = record.summary.service_key.clone();
    let names = KeyNames::new([(key.clone(), "<b>Payments</b>".to_owned())]);
    let proof = Proof {
        event: record.summary.id,
        service_key: key,
        state: ProofState::LeftOpen,
        delivered_at: now(),
        judged_at: now(),
        incident_number: Some(7),
        incident_url: Some("https://example.pagerduty.com/incidents/Q7?a=\"><script>".to_owned()),
        reason: Some("<img src=x>".to_owned()),
    };
    let page = detail::event(&frame(), &record, &names, Some(&proof)).0;
    assert!(page.contains("&lt;b&gt;Payments&lt;/b&gt;"), "{page}");
    assert!(
        page.contains(
            "open after its resolve was sent twice: <a class=\"incident\" href=\"https://example.pagerduty.com/"
        ),
        "{page}"
    );
    assert!(page.contains(">incident #7</a>") && !page.contains("<script>") && !page.contains("<img"), "{page}");
}

#[test]
fn an_event_is_shown_whole_but_for_its_service_key() {
    let record = record(&dead());
    let page = detail::event(&frame(), &record, &KeyNames::default(), None);
    assert!(!page.0.contains(record.summary.service_key.expose()));
    assert_snapshot!(lines(&page));
}

#[test]
fn a_rejected_webhook_is_shown_with_its_body_and_no_service_key() {
    let key = dead().service_key;
    let webhook = RejectedWebhook {
        received_at: rejected().received_at,
        resource: Some("issue".to_owned()),
        reason: "not a Sentry webhook: it has no issue".to_owned(),
        body: format!("{{\"key\":\"{}\",\"html\":\"<b>\"}}", key.expose()).into_bytes(),
        ..RejectedWebhook::default()
    };
    let page = detail::webhook(&frame(), RejectedId::new(4), &webhook, std::slice::from_ref(&key));
    assert!(!page.0.contains(key.expose()));
    assert_snapshot!(lines(&page));
}

#[test]
fn discarding_asks_and_says_what_for() {
    assert_snapshot!(lines(&forms::confirm(&frame(), EntryTarget::Event(EventId::new(7)), 1, None)));
    assert!(forms::confirm(&frame(), EntryTarget::DeadLetters, 1, Some(7)).0.contains("Discard 1 dead letter?"));
    let many = forms::confirm(&frame(), EntryTarget::AllRejected, 1_200, Some(9)).0;
    assert!(
        many.contains("Discard 1,200 rejected webhooks?")
            && many.contains("This cannot be undone. Nobody is paged for them."),
        "{many}"
    );
}

#[test]
fn the_log_in_form_says_what_it_wants_and_why_it_did_not_work() {
    let mut frame = frame();
    frame.footer = None;
    assert_snapshot!(lines(&forms::log_in(&frame, "/events/7", Some("The token is wrong."))));
}
