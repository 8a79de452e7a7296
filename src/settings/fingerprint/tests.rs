use crate::settings::{SETTINGS, Settings};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";
const TOKEN: &str = "a-token-of-some-length";
const OTHER_TOKEN: &str = "another-token-of-some-length";

/// The mark of what is required, with `more` in place of or besides it.
fn mark(more: &[(&str, &str)]) -> String {
    let required = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];
    let required = required.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    Settings::from_vars(required.chain(more.iter().copied())).unwrap().fingerprint().to_string()
}

#[test]
fn it_has_twelve_hexadecimal_digits() {
    let mark = mark(&[]);
    assert!(mark.len() == 12 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mark}");
}

#[test]
fn every_setting_changes_it() {
    let route = format!("level,fatal,{OTHER_KEY}");
    for setting in SETTINGS {
        let other = match setting.name {
            "BRIDGE_PAGERDUTY_SERVICE_KEY" | "BRIDGE_ALARM_SERVICE_KEY" => OTHER_KEY,
            "BRIDGE_WEBHOOK_TOKEN" | "BRIDGE_SENTRY_CLIENT_SECRET" | "BRIDGE_ADMIN_TOKEN" => OTHER_TOKEN,
            "BRIDGE_PAGERDUTY_ROUTES" => &route,
            "BRIDGE_PAGERDUTY_URL" => "https://events.eu.pagerduty.com",
            "BRIDGE_PAGERDUTY_TIMEOUT" | "BRIDGE_SHUTDOWN_DRAIN" | "BRIDGE_SHUTDOWN_GRACE" => "11s",
            "BRIDGE_PAGERDUTY_RATE" => "121",
            "BRIDGE_PAGERDUTY_CA_FILE" => "/etc/ca.pem",
            // It only decides which addresses may be set.
            "BRIDGE_PAGERDUTY_ALLOW_HTTP" => continue,
            "BRIDGE_LISTEN" => "127.0.0.1:8080",
            "BRIDGE_DATABASE_URL" => "sqlite:other.db",
            "BRIDGE_INCIDENT_KEY_PREFIX" => "eu-",
            "BRIDGE_MIN_LEVEL" => "debug",
            "BRIDGE_PAGE_ON" => "alert",
            "BRIDGE_RESOLVE" => "all",
            "BRIDGE_ACKNOWLEDGE" => "on",
            "BRIDGE_REDACT" => "user",
            "BRIDGE_GIVE_UP_AFTER" | "BRIDGE_KEEP_DELIVERED" => "2h",
            "BRIDGE_MAX_BODY" => "1MiB",
            "BRIDGE_LOG_FORMAT" => "json",
            "RUST_LOG" => "warn",
            "BRIDGE_ALARMS" => "off",
            "BRIDGE_SILENCE_ALARM" | "BRIDGE_WAITING_ALARM" => "3h",
            name => panic!("give {name} another value here"),
        };
        assert_ne!(mark(&[(setting.name, other)]), mark(&[]), "{}", setting.name);
    }
}

#[test]
fn spelling_and_order_do_not_change_it_where_they_mean_nothing() {
    let same: [(&str, &str, &str); 8] = [
        ("BRIDGE_WEBHOOK_TOKEN", &format!("{TOKEN},{OTHER_TOKEN}"), &format!("{OTHER_TOKEN}, {TOKEN},{TOKEN}")),
        ("BRIDGE_SENTRY_CLIENT_SECRET", &format!("{TOKEN},{OTHER_TOKEN}"), &format!("{OTHER_TOKEN} ,{TOKEN}")),
        ("BRIDGE_PAGE_ON", "alert,error", "Error,alert,alert"),
        ("BRIDGE_REDACT", "user,customer_id", "Customer_ID, user"),
        ("BRIDGE_PAGERDUTY_TIMEOUT", "1m", "60s"),
        ("BRIDGE_MAX_BODY", "1MiB", "1024 KiB"),
        ("BRIDGE_PAGERDUTY_URL", "https://events.pagerduty.com", "https://EVENTS.pagerduty.com/"),
        (
            "BRIDGE_PAGERDUTY_ROUTES",
            &format!("level,fatal,{KEY};team,web,{OTHER_KEY}"),
            &format!("# ours\n\n level,\"fatal\",{KEY}\nteam,web,{OTHER_KEY}"),
        ),
    ];
    for (name, one, other) in same {
        assert_eq!(mark(&[(name, one)]), mark(&[(name, other)]), "{name}");
    }
    // What a default is may be written out.
    for setting in SETTINGS {
        if let Some(default) = setting.default {
            assert_eq!(mark(&[(setting.name, default)]), mark(&[]), "{}", setting.name);
        }
    }
}

#[test]
fn the_order_of_routes_changes_it_for_the_first_that_matches_wins() {
    let (one, other) = (format!("level,fatal,{KEY}"), format!("team,web,{OTHER_KEY}"));
    let in_order = |first: &str, second: &str| mark(&[("BRIDGE_PAGERDUTY_ROUTES", &format!("{first};{second}"))]);
    assert_ne!(in_order(&one, &other), in_order(&other, &one));
}

#[test]
fn what_stands_at_a_border_changes_it() {
    let route = |text: &str| mark(&[("BRIDGE_PAGERDUTY_ROUTES", text)]);
    assert_ne!(route(&format!("ab,c,{KEY}")), route(&format!("a,bc,{KEY}")));
    assert_ne!(mark(&[("BRIDGE_REDACT", "ab,c")]), mark(&[("BRIDGE_REDACT", "a,bc")]));
    // The same text as a token and as a secret.
    let both = |token, secret| mark(&[("BRIDGE_WEBHOOK_TOKEN", token), ("BRIDGE_SENTRY_CLIENT_SECRET", secret)]);
    assert_ne!(both(TOKEN, OTHER_TOKEN), both(OTHER_TOKEN, TOKEN));
}
