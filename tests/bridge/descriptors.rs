//! A low limit of open files, and more connections than it allows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::{Bridge, PATIENCE, PagerDuty, alert, program};

/// The number of files that the bridge may open.
const LIMIT: usize = 256;

/// More connections than that.
const CONNECTIONS: usize = 400;

/// The program with a limit of open files that it cannot raise.
fn limited(limit: usize) -> Command {
    let program = program();
    let mut shell = Command::new("sh");
    shell.env_clear().args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(program.get_program());
    shell
}

/// A connection on which only the beginning of a request is sent.
fn slow(address: SocketAddr, first: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_nonblocking(true).ok()?;
    stream.write_all(first).ok()?;
    Some(stream)
}

fn assert_all_are_taken(bridge: &Bridge, pagerduty: &PagerDuty) {
    for issue in 1..=40 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    pagerduty.wait_for_accepted(40);
}

#[test]
fn slow_heads_that_take_every_connection_keep_no_alert_out() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_by(|| limited(LIMIT), &pagerduty.url(), &[]);
    let connections: Vec<_> =
        (0..CONNECTIONS).filter_map(|_| slow(bridge.address, b"POST /sentry HTTP/1.1\r\n")).collect();
    assert!(connections.len() > LIMIT);
    assert_all_are_taken(&bridge, &pagerduty);
    let said = bridge.process.stderr.all();
    assert!(!said.iter().any(|line| line.contains("Too many open files")), "{said:#?}");
}

#[test]
fn a_stranger_gets_one_head_a_connection_and_no_time_for_a_second() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_by(|| limited(LIMIT), &pagerduty.url(), &[]);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = slow(bridge.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut answer = [0; 12];
        let is_served = stream.read_exact(&mut answer).is_ok();
        // The connection may be closed already, as it should be.
        let _ = stream.write_all(b"POST /sentry HTTP/1.1\r\n");
        connections.push(stream);
        if !is_served {
            break;
        }
    }
    assert_all_are_taken(&bridge, &pagerduty);
}

#[test]
fn check_says_when_few_files_may_be_open_at_once() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let check = |limit| {
        let settings = [
            ("BRIDGE_PAGERDUTY_URL", pagerduty.url()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", crate::support::KEY.to_owned()),
            ("BRIDGE_WEBHOOK_TOKEN", crate::support::TOKEN.to_owned()),
        ];
        let output = limited(limit).arg("check").envs(settings).current_dir(&home).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check(LIMIT);
    assert!(said.contains("low     open files: at most 256 "), "{said}");
    assert!(said.contains("LimitNOFILE"), "{said}");
    assert!(!check(4096).contains("open files"));
}
