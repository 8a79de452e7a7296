//! Programs that people use today, compared with the bridge, each if it is installed: a forwarder in Flask under gunicorn,
//! adnanh/webhook with a script, and a flow of Node-RED. All of them call PagerDuty before they answer, and store nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::body::{Sample, USUAL};
use crate::load;
use crate::pagerduty::PagerDuty;
use crate::server::{self, Kind};

/// How long a peer may take until it listens.
const START: Duration = Duration::from_mins(1);

/// A program that people use for the same task.
struct Peer {
    name: &'static str,
    /// The program, and its arguments for a port.
    command: fn(port: u16) -> Vec<String>,
}

const PEERS: [Peer; 3] = [
    Peer {
        name: "Flask",
        // Threads, because gunicorn's other workers close each connection after its answer.
        command: |port| words(&format!("gunicorn --workers 2 --threads 16 --bind 127.0.0.1:{port} forwarder:app")),
    },
    Peer {
        name: "webhook",
        command: |port| words(&format!("webhook -hooks hooks.json -urlprefix sentry -ip 127.0.0.1 -port {port}")),
    },
    Peer {
        name: "Node-RED",
        command: |port| {
            words(&format!("node-red --userDir . --port {port} -D uiHost=127.0.0.1 -D apiMaxLength=16mb flows.json"))
        },
    },
];

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

pub(crate) fn run(folder: &Path, rounds: usize, seconds: u64, connections: usize) {
    let pagerduty = PagerDuty::start();
    let sample = Sample::new(USUAL);
    let time = Duration::from_secs(seconds);
    println!("{connections} connections, a body of {} bytes, PagerDuty accepts every event at once", sample.len());
    for round in 1..=rounds {
        for peer in &PEERS {
            let place = folder.join(format!("{}-{round}", peer.name));
            match peer.start(&place, &pagerduty.url()) {
                Some(running) => {
                    let figures = load::run(running.address, &sample, connections, time);
                    println!("round {round} {:<8} {figures}", peer.name);
                }
                None => println!("round {round} {:<8} is not installed", peer.name),
            }
        }
        let place = folder.join(format!("bridge-{round}"));
        fs::create_dir(&place).unwrap();
        let settings = [("BRIDGE_PAGERDUTY_URL", pagerduty.url())].into();
        let bridge = server::start_with(Kind::Bridge, &place, None, &settings);
        println!("round {round} {:<8} {}", "bridge", load::run(bridge.address(), &sample, connections, time));
    }
}

/// A running peer; dropping it kills it.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // gunicorn's workers end with it only if it gets SIGTERM, which `kill` sends.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap();
    }
}

impl Peer {
    /// Starts it in a folder of its own, with the files of `benches/peers`; `None` where it is not installed.
    fn start(&self, place: &Path, pagerduty: &str) -> Option<Running> {
        fs::create_dir(place).unwrap();
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), place.join(file.file_name())).unwrap();
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let command = (self.command)(address.port());
        let child = Command::new(&command[0])
            .args(&command[1..])
            .current_dir(place)
            .env("PAGERDUTY_URL", pagerduty)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let running = Running { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < START, "{} does not listen", self.name);
            thread::sleep(Duration::from_millis(50));
        }
        Some(running)
    }
}
