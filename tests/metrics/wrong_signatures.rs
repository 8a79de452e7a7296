//! A hundred thousand webhooks with wrong signatures cost a bounded amount of memory and time, and displace no webhook of
//! Sentry.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::support::{Bridge, PATIENCE, PagerDuty};
use crate::{post_signed, wait_for};

const OLD: &str = "the-client-secret-of-the-beginning";
const NEW: &str = "the-client-secret-after-the-rotation";

/// Number of webhooks, unless `BRIDGE_TEST_STRANGERS` sets it: a million takes minutes.
const REQUESTS: u32 = 100_000;

/// Number of them that come from one address.
const OF_ONE_ADDRESS: u32 = 10_000;

/// The size of a body in bytes. It is small enough that the number of held webhooks is the limit, and not their size.
const BODY: usize = 4_096;

/// Posts a body with a signature that no secret made, from an address of its own.
fn send(bridge: SocketAddr, from: Ipv4Addr, number: u32) -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&bridge.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = TcpStream::from(socket);
    let body = format!("{{\"noise\":{number:0width$}}}", width = BODY - 10);
    let head = format!(
        "POST /sentry HTTP/1.1\r\nHost: {bridge}\r\nSentry-Hook-Resource: issue\r\nSentry-Hook-Signature: {number:064x}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line[9..]).parse().unwrap()
}

/// The peak memory of a process, in MiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_stranger_with_any_number_of_wrong_signatures_costs_little_and_pushes_out_nothing() {
    let requests = std::env::var("BRIDGE_TEST_STRANGERS").map_or(REQUESTS, |text| text.parse().unwrap());
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("secret");
    fs::write(&file, OLD).unwrap();
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET_FILE", file.to_str().unwrap())];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    // The webhook that Sentry signs with its new secret comes first, and would be the first to be deleted.
    let event = r#"{"action":"triggered","data":{"event":{"event_id":"00000000000000000000000000000001","issue_id":"1","title":"x"}}}"#;
    assert_eq!(post_signed(&bridge, NEW, "event_alert", event.as_bytes()).status, 401);
    let held = "bridge_queue_events{state=\"held\"}";
    wait_for(&bridge, "that it is held", |samples| samples.is(held, 1.0));
    let before = peak(bridge.process.id());
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        break;
                    }
                    let from = Ipv4Addr::from(0x7f01_0001 + number / OF_ONE_ADDRESS);
                    assert_eq!(send(bridge.address, from, number), 401, "request {number}");
                }
            });
        }
    });
    // What could not be held within a second is held, or finds no room, after its answer.
    wait_for(&bridge, "that each is held or found no room", |samples| {
        samples.of("bridge_webhooks_held_total").values().sum::<f64>() == f64::from(requests + 1)
    });
    wait_for(&bridge, "as many as strangers may take together", |samples| samples.is(held, 4_000.0));
    let database: u64 = fs::read_dir(bridge.database().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("bridge.db"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    let (database, grown) = (database >> 20, peak(bridge.process.id()) - before);
    println!("{requests} requests: {grown} MiB more memory at the most, {database} MiB of database");
    assert!(database <= 96, "{database} MiB of database");
    assert!(grown <= 64, "{grown} MiB more memory");

    fs::write(&file, NEW).unwrap();
    bridge.process.signal("HUP");
    bridge.wait_for_log("1 held webhooks are verified by a secret and admitted: 1 queued");
    pagerduty.wait_for_accepted(1);
}
