//! How the client calls Sentry's API, tested with `audit`: pages, rate limits, brown-outs, timeouts, untrusted servers, and
//! what a token may see.

use std::time::Duration;

use sentry_twin::{SentryGeneration, TOKEN, Twin, TwinFaultKind};
use serde_json::json;

use crate::support::run as run_alone;
use crate::tls_proxy::{Authority, TlsProxy};
use crate::twin::{document, findings, legacy_url, run, run_with, service, twin};

/// A Sentry 9.1 in which everything pages.
fn everything_pages(projects: usize) -> Twin {
    twin(SentryGeneration::Plugin, |world| {
        for number in 0..projects {
            let slug = format!("shop-{number}");
            world.add_project(&slug);
            world.add_rule(&slug, "Page somebody", &service("webhooks"));
            let project = world.project(&slug).unwrap();
            (project.hook_enabled, project.urls) = (true, vec![legacy_url()]);
        }
    })
}

#[test]
fn lists_are_read_to_their_last_page() {
    let twin = everything_pages(7);
    twin.world(|world| world.page = 3);
    let run = run(&twin, &["audit", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(document(&run)["projects"].as_array().unwrap().len(), 7);
    let pages = twin.calls().iter().filter(|call| call.path.ends_with("/organizations/acme/projects/")).count();
    assert_eq!(pages, 3);
}

#[test]
fn a_list_whose_next_page_is_the_same_page_is_not_read_for_ever() {
    let twin = everything_pages(1);
    twin.world(|world| world.inject("/projects/", 100, TwinFaultKind::Loop));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("its next page is the same page again"), "{run:?}");
    assert!(twin.calls().len() < 6);
}

#[test]
fn a_throttled_call_is_made_again_when_sentry_allows_it() {
    for fault in [TwinFaultKind::Throttled(1), TwinFaultKind::ThrottledUntilReset] {
        let twin = everything_pages(1);
        twin.world(|world| world.inject("/rules/", 1, fault));
        let run = run(&twin, &["audit", "--json"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let statuses: Vec<u16> =
            twin.calls().iter().filter(|call| call.path.ends_with("/rules/")).map(|call| call.status).collect();
        assert_eq!(statuses, [429, 200]);
    }
}

#[test]
fn a_sentry_that_throttles_for_hours_is_not_waited_for() {
    let twin = everything_pages(1);
    twin.world(|world| world.inject("/rules/", 1, TwinFaultKind::Throttled(7200)));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("throttles GET /api/0/projects/acme/shop-0/rules/ (429) and asks to wait for 7200s"),
        "{run:?}"
    );
}

#[test]
fn what_breaks_off_or_answers_5xx_is_asked_again() {
    for fault in [TwinFaultKind::HalfPage, TwinFaultKind::Status(502)] {
        let twin = everything_pages(1);
        twin.world(|world| world.inject("/organizations/acme/projects/", 1, fault));
        let run = run(&twin, &["audit"]);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    let twin = everything_pages(1);
    twin.world(|world| world.inject("/organizations/acme/projects/", 100, TwinFaultKind::Status(502)));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains("answered GET /api/0/organizations/acme/projects/ with 502: the response is not JSON"),
        "{run:?}"
    );
    assert_eq!(twin.calls().iter().filter(|call| call.status == 502).count(), 4, "it is not asked for ever");
}

#[test]
fn each_call_has_a_connection_of_its_own_so_that_none_is_sent_into_one_that_closes() {
    // The web server of Sentry 9.1 closes kept-alive connections at once, and a request that changes something must not be
    // sent twice.
    let twin = everything_pages(2);
    assert_eq!(run(&twin, &["audit"]).code, Some(0));
    assert!(twin.calls().iter().all(|call| call.closes), "{:?}", twin.calls());
}

#[test]
fn a_slow_answer_is_waited_for() {
    let twin = everything_pages(1);
    twin.world(|world| world.inject("/rules/", 1, TwinFaultKind::Slow(Duration::from_millis(300))));
    assert_eq!(run(&twin, &["audit"]).code, Some(0));
}

#[test]
fn a_few_projects_are_asked_for_at_once_and_no_more() {
    let twin = everything_pages(12);
    twin.world(|world| world.inject("/rules/", 12, TwinFaultKind::Slow(Duration::from_millis(100))));
    let run = run(&twin, &["audit", "--json"]);
    assert_eq!((run.code, document(&run)["projects"].as_array().unwrap().len()), (Some(0), 12));
    let most = twin.world(|world| world.most_at_once);
    assert!((2..=4).contains(&most), "{most} calls were under way at once");
}

#[test]
fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let (twin, stranger) = (everything_pages(1), everything_pages(1));
    let to = format!("{}/api/0/organizations/acme/projects/?next=secret", stranger.url());
    twin.world(|world| world.inject("/organizations/acme/projects/", 1, TwinFaultKind::Redirect(to)));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&format!("with a redirect to {}, which is not followed", stranger.url())), "{run:?}");
    assert!(stranger.calls().is_empty());
}

#[test]
fn a_sentry_with_a_private_authority_is_trusted_when_the_setting_names_it() {
    let twin = everything_pages(1);
    let authority = Authority::named("The authority of our own Sentry");
    let behind = twin.url().trim_start_matches("http://").parse().unwrap();
    let proxy = TlsProxy::start(behind, authority.issue("127.0.0.1", 2999));
    let (url, ca_file) = (proxy.url(), authority.file());

    let untrusted = run_with(&twin, &["audit"], &[("BRIDGE_SENTRY_URL", &url)]);
    assert_eq!(untrusted.code, Some(1), "{untrusted:?}");
    assert!(untrusted.stderr.contains("UnknownIssuer"), "{untrusted:?}");
    assert!(twin.calls().is_empty(), "the token went to somebody who is not trusted");

    let ca_file = ca_file.to_str().unwrap();
    let trusted = run_with(&twin, &["audit"], &[("BRIDGE_SENTRY_URL", &url), ("BRIDGE_SENTRY_CA_FILE", ca_file)]);
    assert_eq!(trusted.code, Some(0), "{trusted:?}");

    let missing = run_with(&twin, &["audit"], &[("BRIDGE_SENTRY_URL", &url), ("BRIDGE_SENTRY_CA_FILE", "no/such.pem")]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("BRIDGE_SENTRY_CA_FILE names no/such.pem, which cannot be read"), "{missing:?}");
}

#[test]
fn a_page_of_html_is_no_answer() {
    let twin = everything_pages(1);
    twin.world(|world| world.inject("/organizations/acme/projects/", 1, TwinFaultKind::Html));
    let run = run(&twin, &["audit"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("cannot be used: it is not JSON"), "{run:?}");
}

#[test]
fn a_token_that_sentry_does_not_know_is_told_and_not_printed() {
    let twin = everything_pages(1);
    let run = run_with(&twin, &["audit"], &[("BRIDGE_SENTRY_API_TOKEN", "SECRET-of-another-sentry")]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("does not know the token of BRIDGE_SENTRY_API_TOKEN (401"), "{run:?}");
    assert!(!run.stderr.contains("SECRET"), "{run:?}");
}

#[test]
fn another_organization_is_told_by_its_address() {
    let twin = everything_pages(1);
    let run = run_with(&twin, &["audit"], &[("BRIDGE_SENTRY_ORG", "somebody-elses")]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("does not have GET /api/0/organizations/somebody-elses/projects/ (404)"), "{run:?}");
}

#[test]
fn without_its_settings_it_says_which_are_missing_and_asks_nobody() {
    let run = run_alone(&["audit"], &[("BRIDGE_SENTRY_ORG", "acme")]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("BRIDGE_SENTRY_URL, BRIDGE_SENTRY_API_TOKEN are not set"), "{run:?}");
}

#[test]
fn the_token_is_not_sent_over_plain_http_to_another_machine() {
    let settings = [
        ("BRIDGE_SENTRY_URL", "http://sentry.example.com"),
        ("BRIDGE_SENTRY_ORG", "acme"),
        ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
    ];
    let run = run_alone(&["audit"], &settings);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("BRIDGE_SENTRY_URL is plain `http` to sentry.example.com"), "{run:?}");
}

#[test]
fn it_says_whose_eyes_the_token_has_and_what_they_may_not_see() {
    let twin = everything_pages(2);
    twin.world(|world| world.add_token("token-with-little-to-see", Some("guest@example.com"), &["org:read"]));
    let settings = [("BRIDGE_SENTRY_API_TOKEN", "token-with-little-to-see")];
    let text = run_with(&twin, &["audit"], &settings);
    assert!(text.stdout.contains("seen with the token of guest@example.com, with the scopes org:read\n"), "{text:?}");
    assert!(
        text.stdout.contains(
            "the token may not do GET /api/0/projects/acme/shop-0/rules/ (403): it needs the scope \
                                  project:read"
        ),
        "{text:?}"
    );
    let run = run_with(&twin, &["audit", "--json"], &settings);
    assert_eq!(run.code, Some(1));
    assert_eq!(document(&run)["token"], json!({"user": "guest@example.com", "scopes": ["org:read"]}));
    assert!(findings(&run).contains(&"not-seen - -".to_owned()), "{run:?}");
}

#[test]
fn the_smallest_token_of_the_guide_can_audit_every_generation() {
    for (generation, scopes) in [
        (SentryGeneration::Plugin, ["org:read", "project:read", "event:read"].as_slice()),
        (SentryGeneration::Apps, &["org:read", "project:read", "event:read"]),
        (SentryGeneration::Workflows, &["org:read", "project:read", "event:read", "alerts:read"]),
    ] {
        let twin = twin(generation, |world| {
            world.add_project("shop");
            world.add_token("the-smallest-token-of-all", None, scopes);
        });
        let run = run_with(&twin, &["audit", "--json"], &[("BRIDGE_SENTRY_API_TOKEN", "the-smallest-token-of-all")]);
        assert!(!findings(&run).iter().any(|finding| finding.starts_with("not-seen")), "{generation:?}: {run:?}");
        assert!(
            twin.calls().iter().all(|call| !matches!(call.status, 401 | 403)),
            "{generation:?}: {:?}",
            twin.calls()
        );
    }
}

#[test]
fn an_audit_changes_nothing() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let twin = twin(generation, |world| {
            world.add_project("shop");
        });
        run(&twin, &["audit"]);
        assert_eq!(twin.changes(), Vec::<String>::new());
    }
}
