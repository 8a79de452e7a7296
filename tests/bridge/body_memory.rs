//! The memory that request bodies may take together, and which requests are answered 503 when it is used up.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Answer, Bridge, Connection, PATIENCE, PagerDuty, TOKEN, alert, post};

const SECRET: &str = "client-secret-of-the-integration-for-tests";

const MIB: usize = 1024 * 1024;

/// The default of the largest body that is read.
const LARGEST: usize = 16 * MIB;

/// The memory limit in `deploy/kubernetes.yaml`, in KiB as `/proc` shows it.
const ALLOWED: u64 = 512 * 1024;

fn signature(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body).finalize();
    mac.into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// An issue alert of the integration platform about issue `issue`, of at least `size` bytes.
fn event_alert(issue: u64, size: usize) -> Vec<u8> {
    let body = json!({
        "action": "triggered",
        "data": {
            "event": {
                "event_id": format!("{issue:032x}"),
                "issue_id": issue.to_string(),
                "title": "Disk full",
                "level": "error",
                "web_url": format!("https://sentry.example.test/organizations/acme/issues/{issue}/events/1/"),
                "padding": "x".repeat(size),
            },
            "triggered_rule": "Page somebody",
        },
    });
    body.to_string().into_bytes()
}

/// Posts a webhook that is authenticated only by its signature.
fn post_signed(address: SocketAddr, body: &[u8]) -> Answer {
    let signature = signature(body);
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    post(address, "/sentry", &headers, body)
}

/// Opens an unauthenticated connection that has sent a body of 16 MiB except for the last byte, or as much of it as the
/// bridge reads.
fn stranger(address: SocketAddr) -> JoinHandle<TcpStream> {
    stranger_with(LARGEST, address)
}

/// Like [`stranger`], for a body of `size` bytes.
fn stranger_with(size: usize, address: SocketAddr) -> JoinHandle<TcpStream> {
    let dummy = "0".repeat(64);
    let head = format!(
        "POST /sentry HTTP/1.1\r\nHost: x\r\nSentry-Hook-Resource: event_alert\r\nSentry-Hook-Signature: {dummy}\r\n\
         Content-Length: {size}\r\n\r\n"
    );
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // If the request is refused, the rest of it cannot be sent.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b' '; size - 1]));
        stream
    })
}

/// Posts a large body with the token. In debug builds it takes seconds to parse some of them.
fn post_large(address: SocketAddr, body: &[u8]) -> Answer {
    let head = format!(
        "POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(address);
    connection.set_timeout(4 * PATIENCE);
    // If the request is refused, it need not be sent completely.
    connection.try_send(&[head.as_bytes(), body].concat());
    connection.answer()
}

fn bridge(pagerduty: &PagerDuty) -> Bridge {
    Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)])
}

#[test]
fn strangers_with_large_bodies_shut_out_no_signed_webhook() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    for number in [5, 12] {
        let strangers: Vec<_> = (0..number).map(|_| stranger(bridge.address)).collect();
        let strangers: Vec<_> = strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect();
        let signed = (1..=36).map(|issue| {
            let body = event_alert(issue + 100 * number, 2000);
            thread::spawn({
                let address = bridge.address;
                move || post_signed(address, &body).status
            })
        });
        let signed: Vec<_> = signed.collect::<Vec<_>>().into_iter().map(|answer| answer.join().unwrap()).collect();
        assert_eq!(signed, [202; 36], "while {number} strangers hold bodies of 16 MiB");
        drop(strangers);
    }
}

#[test]
fn strangers_with_many_small_bodies_shut_out_no_signed_webhook() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let hold = |number: usize, size: usize| {
        let strangers: Vec<_> = (0..number).map(|_| stranger_with(size, bridge.address)).collect();
        strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect::<Vec<_>>()
    };
    // More than fit, of both sizes.
    let large = hold(8, LARGEST);
    let small = hold(300, 64 * 1024);
    for issue in 1..=36 {
        assert_eq!(post_signed(bridge.address, &event_alert(issue, 2000)).status, 202);
        bridge.queue(&alert(100 + issue, "Disk full"));
    }
    drop((large, small));
}

#[test]
fn a_large_signed_webhook_takes_the_place_of_the_oldest_stranger() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let strangers: Vec<_> = (0..12).map(|_| stranger(bridge.address)).collect();
    let strangers: Vec<_> = strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect();
    assert_eq!(post_signed(bridge.address, &event_alert(7, 8 * MIB)).status_and_json().0, 202);
    // There are more unauthenticated requests than fit: some were answered 503, and the bridge reads no more of them.
    let answers = strangers.into_iter().filter_map(|mut stranger| {
        let _ = stranger.shutdown(Shutdown::Write);
        let mut text = Vec::new();
        let _ = stranger.read_to_end(&mut text);
        Some(String::from_utf8_lossy(&text).to_lowercase()).filter(|text| text.starts_with("http/1.1 503"))
    });
    let answers: Vec<_> = answers.collect();
    assert!(!answers.is_empty() && answers.iter().all(|answer| answer.contains("\r\nretry-after: ")), "{answers:#?}");
}

#[test]
fn a_token_finds_room_for_its_large_body_while_strangers_hold_all_of_it() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let strangers: Vec<_> = (0..12).map(|_| stranger(bridge.address)).collect();
    let strangers: Vec<_> = strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect();
    let mut body = alert(7, "Disk full");
    body.resize(LARGEST, b' ');
    assert_eq!(bridge.post(&body).status_and_json().0, 202);
    drop(strangers);
}

#[test]
fn a_proven_body_without_room_is_told_when_to_come_again_and_small_ones_still_get_in() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    let mut body = alert(7, "Disk full");
    body.resize(LARGEST, b' ');
    let (told, tells) = mpsc::channel();
    let holders: Vec<_> = (0..12)
        .map(|number| {
            let mut connection = Connection::open(bridge.address);
            let head = format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST}\r\n\r\n{{");
            connection.send(head.as_bytes());
            let (told, body) = (told.clone(), body.clone());
            let (release, released) = mpsc::channel::<()>();
            let holder = thread::spawn(move || {
                // If there is no memory, the bridge answers before the body has come or while it comes. Otherwise it waits
                // for the body.
                if connection.has_no_response_until(&released) {
                    connection.try_send(&body[1..]);
                }
                told.send((number, connection.answer())).unwrap();
            });
            (release, holder)
        })
        .collect();
    let (_, refused) = tells.recv_timeout(PATIENCE).unwrap();
    let (status, said) = refused.status_and_json();
    assert_eq!((status, &said["status"]), (503, &Value::from("error")));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{refused:?}");
    assert!(said["reason"].as_str().unwrap().contains("memory"), "{said}");
    for issue in 100..110 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    let (releases, holders): (Vec<_>, Vec<_>) = holders.into_iter().unzip();
    drop(releases);
    for holder in holders {
        holder.join().unwrap();
    }
    drop(told);
    let taken = tells.iter().filter(|(_, answer)| answer.status == 202).count();
    assert!(taken >= 4, "{taken} of the others had room");
    assert_eq!(bridge.post(&body).status, 202, "what was read is given back");
}

#[test]
fn forty_of_the_largest_bodies_at_once_take_less_memory_than_the_manifest_allows() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge(&pagerduty);
    // A body that is cheap to parse, one that is one long text, one that is not a webhook and is therefore kept, and one of
    // as many small texts as possible, which takes the most memory.
    let mut padded = alert(1, "Disk full");
    padded.resize(LARGEST, b' ');
    let long = alert(2, &"é\\".repeat(LARGEST / 13));
    let odd = [br#"{"hello": ""#.as_slice(), &vec![b'x'; LARGEST - 100], br#""}"#].concat();
    let mut tagged: Value = serde_json::from_slice(&alert(3, "Disk full")).unwrap();
    tagged["event"]["tags"] = (0..LARGEST / 20).map(|number| json!([format!("tag-{number}"), "v"])).collect();
    let tagged = tagged.to_string().into_bytes();
    let bodies = [&padded, &long, &odd, &padded, &long, &padded, &odd, &tagged];
    let sizes = bodies.map(Vec::len);
    assert!(sizes.iter().all(|size| (LARGEST - 2 * MIB..=LARGEST).contains(size)), "{sizes:?}");

    let address = bridge.address;
    let answers: Vec<_> = thread::scope(|scope| {
        let posts: Vec<_> =
            (0..40).map(|number| scope.spawn(move || post_large(address, bodies[number % 8]))).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let peak = peak_memory(&bridge);
    let of = |status| answers.iter().filter(|answer| answer.status == status).count();
    println!("peak {} MiB; 202: {}, 422: {}, 503: {}", peak / 1024, of(202), of(422), of(503));
    assert_eq!(of(202) + of(422) + of(503), 40, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(of(202) >= 3, "some find room");
    let refused = answers.iter().filter(|answer| answer.status == 503);
    assert!(refused.clone().all(|answer| answer.header("retry-after").is_some()));
    assert!(peak < ALLOWED, "{} MiB", peak / 1024);
    bridge.queue(&alert(9, "Disk full"));
}

/// The peak memory of the bridge, in KiB.
#[cfg(target_os = "linux")]
fn peak_memory(bridge: &Bridge) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", bridge.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// It is only known on Linux.
#[cfg(not(target_os = "linux"))]
fn peak_memory(_: &Bridge) -> u64 {
    0
}
