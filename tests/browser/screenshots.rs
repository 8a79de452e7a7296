//! Takes screenshots, among them that of the README, and saves them in the folder that `SHOTS` names, by default in cargo's
//! folder for tests.

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DurationRound, TimeDelta, Utc};
use pagerduty_sandbox::{CloseMode, Fault, FaultRule, RetryAfter, ThrottleStatus};
use sqlx::{Connection, SqliteConnection};
use tokio::runtime::Builder;

use crate::browser::Browser;
use crate::support::{Bridge, KEY, OTHER_KEY, PagerDuty, ROUTES, alert, alert_of_level, execute_sql};
use crate::{ADMIN, log_in};

const TITLES: [&str; 5] = [
    "TypeError: Cannot read property 'total' of undefined",
    "Timeout: POST https://payments.example.com/v1/charges took longer than 30 s",
    "KeyError: 'shipping_address' in checkout.views.confirm",
    "Disk usage of db-3 is above 90 %",
    "عذرًا، تعذر الاتصال بقاعدة البيانات",
];

/// A bridge with troubles: one key is throttled, one event is a dead letter, one body is not a Sentry webhook.
fn in_trouble(pagerduty: &PagerDuty) -> Bridge {
    let throttled = Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: Some(RetryAfter::Seconds(90)) };
    let refused = FaultRule { incident_key: Some("4102".to_owned()), ..FaultRule::new(Fault::status(400)) };
    pagerduty.inject(FaultRule { service_key: Some(OTHER_KEY.to_owned()), ..FaultRule::new(throttled) }).unwrap();
    pagerduty.inject(refused).unwrap();
    let settings = [ROUTES, ("BRIDGE_ADMIN_TOKEN", ADMIN), ("BRIDGE_PAGERDUTY_RATE", "120")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    assert!(bridge.terminate("TERM").success());
    write_activity(&bridge.database());
    bridge.restart();
    bridge.queue(&alert(4102, "OperationalError: could not connect to server: Connection refused"));
    bridge.wait_for_log("dead letter");
    for (issue, title) in (4103..).zip(TITLES) {
        bridge.queue(&alert(issue, title));
    }
    pagerduty.wait_for_accepted(5);
    for issue in 4110..4116 {
        bridge.queue(&alert_of_level("fatal", issue, "ConnectionResetError: [Errno 104] Connection reset by peer"));
    }
    bridge.queue(&alert_of_level("fatal", 4116, "SystemExit: worker 7 ran out of memory and was killed"));
    bridge.post(b"{\"event\": \"of another sender\", \"text\": \"hello\"}");
    pagerduty.wait_for("a throttled attempt", |records| records.counters().requests >= 7);
    bridge
}

/// A bridge that has not reached PagerDuty for twelve minutes.
fn in_an_outage(pagerduty: &PagerDuty) -> Bridge {
    let names = format!("{KEY},Shop;{OTHER_KEY},Payments");
    let names = ("BRIDGE_PAGERDUTY_NAMES", names.as_str());
    let settings = [ROUTES, names, ("BRIDGE_ADMIN_TOKEN", ADMIN), ("BRIDGE_PAGERDUTY_RATE", "120")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    assert!(bridge.terminate("TERM").success());
    write_activity(&bridge.database());
    bridge.restart();
    for (issue, title) in (4103..).zip(TITLES) {
        bridge.queue(&alert(issue, title));
    }
    pagerduty.wait_for_accepted(5);
    pagerduty.inject(Fault::Close { apply: false, cut: CloseMode::Silent }).unwrap();
    for issue in 4120..4126 {
        bridge.queue(&alert_of_level("fatal", issue, "ConnectionError: the card processor did not answer within 30 s"));
        bridge.queue(&alert(issue + 100, "OperationalError: could not connect to server: Connection refused"));
    }
    bridge.wait_for_log("not delivered yet");
    assert!(bridge.terminate("TERM").success());
    execute_sql(&bridge, "UPDATE failing_keys SET since = since - 750000 WHERE service_key <> ?", b"");
    for earlier in [
        "UPDATE events SET first_seen = first_seen - 740000, received_at = received_at - 740000 WHERE incident_key <> ?",
        "UPDATE events SET finished_at = finished_at - 800000 WHERE incident_key <> ?",
        "UPDATE lately_delivered SET at = at - 800000 WHERE service_key <> ?",
        "UPDATE lately SET last_webhook_at = last_webhook_at - 740000, last_delivered_at = last_delivered_at - 800000
            WHERE id <> ?",
    ] {
        execute_sql(&bridge, earlier, b"");
    }
    bridge.restart();
    bridge
}

/// Writes the activity of a day into the database of a stopped bridge: low at night, an hour of throttling and failures at
/// noon.
fn write_activity(database: &Path) {
    let step = TimeDelta::minutes(10);
    let newest = Utc::now().duration_trunc(step).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", database.display())).await.unwrap();
        for back in 1..144_i32 {
            let trouble = (12..18).contains(&back);
            let busy = i64::from((72 - (back - 30).rem_euclid(144)).abs()) / 6;
            let received = if trouble { 60 - i64::from(back) } else { busy + i64::from(back * 7 % 5) };
            let (throttled, failed) = if trouble { (i64::from(back) - 6, i64::from(back % 3)) } else { (0, 0) };
            sqlx::query(
                "INSERT INTO activity (began_at, received, delivered, throttled, failed) VALUES (?, ?, ?, ?, ?)",
            )
            .bind((newest - step * back).timestamp_millis())
            .bind(received)
            .bind(received)
            .bind(throttled)
            .bind(failed)
            .execute(&mut connection)
            .await
            .unwrap();
        }
        connection.close().await.unwrap();
    });
}

#[test]
fn the_status_page_can_be_pictured_on_a_phone_and_on_a_desk_by_day_and_by_night() {
    let folder = PathBuf::from(env::var_os("SHOTS").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()));
    let pagerduty = PagerDuty::start();
    let browser = Browser::start();
    let devices = [("phone", 390, 844, true), ("desktop", 1280, 900, false)];
    let quiet = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    quiet.queue(&alert(4100, "TypeError: Cannot read property 'total' of undefined"));
    pagerduty.wait_for_accepted(1);
    let pagerduty = PagerDuty::start();
    let bridge = in_trouble(&pagerduty);
    let pagerduty = PagerDuty::start();
    let outage = in_an_outage(&pagerduty);
    browser.emulate_device(1280, 1400, false, "light");
    log_in(&browser, &outage);
    browser.wait_for("#destinations .backoff");
    save(&folder, "readme", &browser.screenshot(false));
    for scheme in ["light", "dark"] {
        for (device, width, height, is_phone) in devices {
            browser.emulate_device(width, height, is_phone, scheme);
            let take = |page: &str, whole: bool| {
                let size = save(&folder, &format!("{page}-{device}-{scheme}"), &browser.screenshot(whole));
                assert!(size.0 == width && if whole { size.1 > 0 } else { size.1 == height }, "{page}: {size:?}");
            };
            browser.forget_cookies();
            browser.open(&format!("http://{}/", bridge.address));
            take("login", false);
            log_in(&browser, &bridge);
            take("trouble", false);
            take("trouble-whole", true);
            browser.open(&format!("http://{}/events/1", bridge.address));
            take("event", true);
            browser.open(&format!("http://{}/dead/discard", bridge.address));
            take("discard", false);
            browser.forget_cookies();
            log_in(&browser, &outage);
            take("outage", false);
            browser.forget_cookies();
            log_in(&browser, &quiet);
            take("healthy", true);
        }
    }
}

/// Saves a screenshot, and returns its width and height.
fn save(folder: &Path, name: &str, picture: &str) -> (u32, u32) {
    let picture = STANDARD.decode(picture).unwrap();
    fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
    let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    // The first chunk of a PNG begins with width and height.
    (number(16), number(20))
}
