//! Secrets are rotated while webhooks come: no alert is lost, and unauthenticated webhooks are never accepted.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sentry_pagerduty_bridge::pagerduty::EventType;
use serde_json::{Value, json};
use sha2::Sha256;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::support::{
    Answer, Bridge, PATIENCE, PagerDuty, TOKEN, alert, alert_of_level, execute_sql, get, get_with, post,
};

const OLD: &str = "the-client-secret-of-the-beginning";
const NEW: &str = "the-client-secret-after-the-rotation";
const ADMIN: &str = "the-admin-token-of-the-beginning";

/// A secret in a file as Kubernetes mounts it: `secret` → `..data/secret`, and `..data` is replaced atomically.
struct Mounted {
    home: TempDir,
    versions: u32,
}

impl Mounted {
    fn new(secret: &str) -> Self {
        let mut mounted = Self { home: tempfile::tempdir().unwrap(), versions: 0 };
        mounted.swap(secret);
        symlink("..data/secret", mounted.file()).unwrap();
        mounted
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("secret")
    }

    /// Replaces the content of the file atomically.
    fn swap(&mut self, secret: &str) {
        self.versions += 1;
        let version = format!("..version_{}", self.versions);
        fs::create_dir(self.home.path().join(&version)).unwrap();
        fs::write(self.home.path().join(&version).join("secret"), secret).unwrap();
        symlink(&version, self.home.path().join("..data_tmp")).unwrap();
        fs::rename(self.home.path().join("..data_tmp"), self.home.path().join("..data")).unwrap();
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    mac.into_bytes().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn trigger(issue: u64) -> (&'static str, Vec<u8>) {
    let event =
        json!({"event_id": format!("{issue:032x}"), "issue_id": issue.to_string(), "title": format!("Issue {issue}")});
    ("event_alert", json!({"action": "triggered", "data": {"event": event}}).to_string().into_bytes())
}

fn resolve(issue: u64) -> (&'static str, Vec<u8>) {
    let issue = json!({"id": issue.to_string(), "title": "it"});
    ("issue", json!({"action": "resolved", "data": {"issue": issue}}).to_string().into_bytes())
}

#[track_caller]
fn send(address: SocketAddr, secret: &str, (resource, body): (&str, Vec<u8>)) -> Answer {
    let signature = signature(secret, &body);
    let headers = [("Sentry-Hook-Resource", resource), ("Sentry-Hook-Signature", signature.as_str())];
    post(address, "/sentry", &headers, &body)
}

/// Posts a signed body from another address of this machine.
#[track_caller]
fn send_from(stranger: Ipv4Addr, address: SocketAddr, signature: &str, body: &[u8]) -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((stranger, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    let head = format!(
        "POST /sentry HTTP/1.1\r\nHost: {address}\r\nSentry-Hook-Resource: issue\r\nSentry-Hook-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line[9..]).parse().unwrap()
}

fn client_secret_file(bridge: &Path) -> (&'static str, &str) {
    ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", bridge.to_str().unwrap())
}

/// Writes files as if in one step: the bridge reads them now and then.
fn write(bridge: &Bridge, files: &[(&Path, &str)]) {
    bridge.process.while_stopped(|| files.iter().for_each(|(file, text)| fs::write(file, text).unwrap()));
}

/// The value of a sample of `/metrics`. A scrape that does not get the numbers of the queue in time is without them.
fn sample(address: SocketAddr, name: &str) -> Option<String> {
    let text = String::from_utf8(get(address, "/metrics").body).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// Waits until a sample has this value.
#[track_caller]
fn wait_for_sample(address: SocketAddr, name: &str, value: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sample = sample(address, name);
        if sample.as_deref() == Some(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {sample:?} and does not become {value}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const HELD: &str = "bridge_queue_events{state=\"held\"}";
const IS_HELD: &str = "a webhook with a wrong signature is held";
const NO_ROOM: &str = "bridge_webhooks_held_total{outcome=\"no_room\"}";
const SECRETS: &str = "bridge_trouble{cause=\"secrets\"}";

#[test]
fn a_secret_that_is_rotated_in_the_middle_of_a_stream_costs_no_alert_and_no_order() {
    let pagerduty = PagerDuty::start();
    let mut mounted = Mounted::new(OLD);
    let file = mounted.file();
    let bridge = Bridge::start_with(&pagerduty.url(), &[client_secret_file(&file), ("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    let say = |secret, issue, status| {
        assert_eq!(send(bridge.address, secret, trigger(issue)).status, status, "trigger {issue}");
        assert_eq!(send(bridge.address, secret, resolve(issue)).status, status, "resolve {issue}");
    };
    (1..=20).for_each(|issue| say(OLD, issue, 202));
    // From here on Sentry signs with a secret that the bridge does not have yet.
    (21..=60).for_each(|issue| say(NEW, issue, 401));
    // What cannot be held within a second is held after its answer.
    wait_for_sample(bridge.address, HELD, "80");
    let bearer = format!("Bearer {ADMIN}");
    let status = get_with(bridge.address, "/api/status", &[("Authorization", &bearer)]).json();
    assert_eq!(status["queue"]["held"], 80, "{status}");
    mounted.swap(NEW);
    bridge.wait_for_log("BRIDGE_SENTRY_CLIENT_SECRET changed and is in use from now on");
    (61..=80).for_each(|issue| say(NEW, issue, 202));
    assert_eq!(send(bridge.address, OLD, trigger(81)).status, 401, "the old secret is dead");

    pagerduty.wait_for("the resolve of every incident", |records| records.counters().resolved >= 80);
    wait_for_sample(bridge.address, HELD, "1");
    wait_for_sample(bridge.address, "bridge_webhooks_held_total{outcome=\"admitted\"}", "80");
    let incidents = pagerduty.incidents();
    assert_eq!(incidents.len(), 80);
    assert!(incidents.iter().all(|incident| incident.opened == 1), "{incidents:#?}");

    let events = bridge.end();
    let triggers: Vec<u64> = events
        .iter()
        .filter(|event| event.summary.event_type == EventType::Trigger)
        .map(|event| event.summary.incident_key.as_str().parse().unwrap())
        .collect();
    assert_eq!(triggers, (1..=80).collect::<Vec<_>>(), "the queue has them in the order in which they came");
    assert!(
        events.windows(2).all(|pair| pair[0].summary.received_at <= pair[1].summary.received_at),
        "each with the time at which it came"
    );
}

#[test]
fn what_is_held_outlives_a_restart_and_strangers_and_is_admitted_with_the_new_secret() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    fs::write(&file, OLD).unwrap();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[client_secret_file(&file)]);
    for issue in 1..=3 {
        assert_eq!(send(bridge.address, NEW, trigger(issue)).status, 401);
    }
    let noise = signature("the-secret-of-a-stranger", b"noise");
    let address = bridge.address;
    std::thread::scope(|scope| {
        for host in 2..6 {
            let (noise, stranger) = (&noise, Ipv4Addr::new(127, 0, 0, host));
            scope.spawn(move || {
                for number in 0..700_u32 {
                    let body = format!("{{\"noise\": {number}}}").into_bytes();
                    assert_eq!(send_from(stranger, address, noise, &body), 401);
                }
            });
        }
    });
    // A thousand of each address at most, and these were fewer.
    wait_for_sample(bridge.address, HELD, "2803");
    for _ in 0..500 {
        assert_eq!(send_from(Ipv4Addr::new(127, 0, 0, 2), bridge.address, &noise, b"more"), 401);
    }
    wait_for_sample(bridge.address, NO_ROOM, "200");
    wait_for_sample(bridge.address, HELD, "3103");
    assert_eq!(send(bridge.address, NEW, trigger(4)).status, 401, "those who flood take no room from others");
    wait_for_sample(bridge.address, HELD, "3104");

    bridge.process.kill();
    fs::write(&file, NEW).unwrap();
    bridge.restart();
    bridge.wait_for_log("4 held webhooks are verified by a secret and admitted: 4 queued");
    pagerduty.wait_for_accepted(4);
    let mut opened: Vec<_> = pagerduty.triggers().into_iter().map(|(incident_key, _)| incident_key).collect();
    opened.sort();
    assert_eq!(opened, ["1", "2", "3", "4"]);
    // What is not a Sentry webhook is held until it expires.
    wait_for_sample(bridge.address, HELD, "3100");
    assert_eq!(send_from(Ipv4Addr::new(127, 0, 0, 2), bridge.address, &noise, b"more"), 401);
    // A restart gives nobody new room.
    wait_for_sample(bridge.address, NO_ROOM, "1");
    wait_for_sample(bridge.address, HELD, "3100");
}

#[test]
fn what_was_held_for_a_day_is_gone_also_where_the_right_secret_comes_then() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    fs::write(&file, OLD).unwrap();
    let mut bridge = Bridge::start_with(&pagerduty.url(), &[client_secret_file(&file)]);
    assert_eq!(send(bridge.address, NEW, trigger(1)).status, 401);
    bridge.wait_for_log(IS_HELD);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    execute_sql(&bridge, "UPDATE held SET received_at = received_at - 24 * 3600 * 1000 WHERE body <> ?", b"");
    bridge.restart();
    bridge.wait_for_log("1 held webhooks were deleted: no secret verified them for 24 hours");
    assert_eq!(send(bridge.address, NEW, trigger(2)).status, 401);
    bridge.wait_for_log(IS_HELD);
    fs::write(&file, format!("{NEW},{OLD}")).unwrap();
    bridge.process.signal("HUP");
    bridge.wait_for_log("1 held webhooks are verified by a secret and admitted: 1 queued");
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.triggers().pop().unwrap().0, "2");
    let events = bridge.end();
    assert_eq!(events.len(), 1);
}

#[test]
fn a_new_value_that_is_invalid_changes_nothing_and_is_said_until_it_is_mended() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    fs::write(&file, OLD).unwrap();
    let bridge = Bridge::start_with(&pagerduty.url(), &[client_secret_file(&file), ("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    write(&bridge, &[(&file, "short")]);
    let said = bridge.wait_for_log("cannot be used, so the old one stays in use");
    assert!(said.contains("BRIDGE_SENTRY_CLIENT_SECRET has 5 characters") && !said.contains("short"), "{said}");
    assert_eq!(send(bridge.address, OLD, trigger(1)).status, 202);
    wait_for_sample(bridge.address, SECRETS, "1");
    let bearer = format!("Bearer {ADMIN}");
    let status = get_with(bridge.address, "/api/status", &[("Authorization", &bearer)]).json();
    assert_eq!(
        (&status["status"], &status["troubles"][0]["cause"]),
        (&json!("degraded"), &json!("secrets")),
        "{status}"
    );

    fs::remove_file(&file).unwrap();
    bridge.wait_for_log("which cannot be read");
    assert_eq!(send(bridge.address, OLD, trigger(2)).status, 202);
    fs::write(&file, NEW).unwrap();
    bridge.wait_for_log("BRIDGE_SENTRY_CLIENT_SECRET changed and is in use from now on");
    assert_eq!(sample(bridge.address, SECRETS).as_deref(), Some("0"));
    assert_eq!(send(bridge.address, NEW, trigger(3)).status, 202);
    pagerduty.wait_for_accepted(3);
}

#[test]
fn the_tokens_of_webhooks_and_of_the_page_change_on_a_signal_and_the_old_ones_open_nothing() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let [webhook, admin] = ["webhook", "admin"].map(|name| home.path().join(name));
    fs::write(&webhook, TOKEN).unwrap();
    fs::write(&admin, ADMIN).unwrap();
    let bridge = Bridge::start_with(
        &pagerduty.url(),
        &[
            ("BRIDGE_WEBHOOK_TOKEN", ""),
            ("BRIDGE_WEBHOOK_TOKEN_FILE", webhook.to_str().unwrap()),
            ("BRIDGE_ADMIN_TOKEN_FILE", admin.to_str().unwrap()),
        ],
    );
    let status =
        |token: &str| get_with(bridge.address, "/api/status", &[("Authorization", &format!("Bearer {token}"))]).status;
    bridge.queue(&alert(1, "by the old token"));
    assert_eq!((status(ADMIN), status("another-admin-token")), (200, 401));
    bridge.process.signal("HUP");
    bridge.wait_for_log("have the same contents as before, so nothing changed");

    write(&bridge, &[(&webhook, "the-next-token-of-webhooks"), (&admin, "another-admin-token")]);
    bridge.process.signal("HUP");
    bridge.wait_for_log("BRIDGE_ADMIN_TOKEN, BRIDGE_WEBHOOK_TOKEN changed and is in use from now on");
    assert_eq!(bridge.post(&alert(2, "by the old token")).status, 401);
    let by_new = post(bridge.address, "/sentry/the-next-token-of-webhooks", &[], &alert(3, "by the new token"));
    assert_eq!(by_new.status_and_json().1["status"], Value::from("queued"));
    assert_eq!((status(ADMIN), status("another-admin-token")), (401, 200));
}

#[test]
fn a_hangup_without_files_of_secrets_changes_nothing_and_ends_nothing() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.process.signal("HUP");
    bridge.wait_for_log("no secret is set by a file");
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
}

#[test]
fn what_was_held_goes_to_the_service_key_that_was_rotated_together_with_the_secret() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let [key, secret] = ["key", "secret"].map(|name| home.path().join(name));
    let keys = ['a', 'b'].map(|letter| letter.to_string().repeat(32));
    fs::write(&key, &keys[0]).unwrap();
    fs::write(&secret, OLD).unwrap();
    let bridge = Bridge::start_with(
        &pagerduty.url(),
        &[
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", ""),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", key.to_str().unwrap()),
            ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ],
    );
    assert_eq!(send(bridge.address, NEW, trigger(1)).status, 401);
    bridge.wait_for_log(IS_HELD);
    fs::write(&key, &keys[1]).unwrap();
    fs::write(&secret, NEW).unwrap();
    bridge.process.signal("HUP");
    pagerduty.wait_for("the alert at the new key", |records| records.incident(&keys[1], "1").is_some());
}

#[test]
fn service_keys_and_routes_change_with_their_files_and_a_database_after_a_restart() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let [key, routes, database] = ["key", "routes", "database"].map(|name| home.path().join(name));
    let keys = ['a', 'b', 'c', 'd'].map(|letter| letter.to_string().repeat(32));
    fs::write(&key, &keys[0]).unwrap();
    fs::write(&routes, format!("level,fatal,{}", keys[1])).unwrap();
    fs::write(&database, format!("sqlite:{}", home.path().join("first.db").display())).unwrap();
    let bridge = Bridge::start_with(
        &pagerduty.url(),
        &[
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", ""),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", key.to_str().unwrap()),
            ("BRIDGE_PAGERDUTY_ROUTES", ""),
            ("BRIDGE_PAGERDUTY_ROUTES_FILE", routes.to_str().unwrap()),
            ("BRIDGE_DATABASE_URL", ""),
            ("BRIDGE_DATABASE_URL_FILE", database.to_str().unwrap()),
        ],
    );
    let goes_to = |issue: u64, level: &str, key: &str| {
        bridge.queue(&alert_of_level(level, issue, "Disk full"));
        let what = format!("the {level} alert at the key {key}");
        pagerduty.wait_for(&what, |records| records.incident(key, &issue.to_string()).is_some());
    };
    goes_to(1, "error", &keys[0]);
    goes_to(2, "fatal", &keys[1]);
    let second = format!("sqlite:{}", home.path().join("second.db").display());
    write(&bridge, &[(&key, &keys[2]), (&routes, &format!("level,fatal,{}", keys[3])), (&database, &second)]);
    bridge.process.signal("HUP");
    bridge.wait_for_log("BRIDGE_DATABASE_URL changed: restart the bridge to use it");
    bridge.wait_for_log("BRIDGE_PAGERDUTY_ROUTES, BRIDGE_PAGERDUTY_SERVICE_KEY changed and is in use from now on");
    goes_to(3, "error", &keys[2]);
    goes_to(4, "fatal", &keys[3]);
    assert!(!home.path().join("second.db").exists());
    write(&bridge, &[(&routes, "level,fatal,short")]);
    let said = bridge.wait_for_log("cannot be used, so the old one stays in use");
    assert!(said.contains("BRIDGE_PAGERDUTY_ROUTES") && !said.contains("short"), "{said}");
    goes_to(5, "fatal", &keys[3]);
}
