//! A rolling restart behind a load balancer that checks `/readyz`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use temporary_postgres::PostgresCluster;

use crate::load::{Clients, is_ready};
use crate::proxy::Proxy;
use crate::{DATABASE_TIMEOUT, assert_delivered, drain, number, pagerduty, start, wait_until};

/// Duration in seconds if `HA_SECONDS` is not set.
const SECONDS: u64 = 20;

/// How often the load balancer checks each bridge.
const CHECK: Duration = Duration::from_millis(100);

/// A load balancer that forwards to ready bridges only, and retries nothing.
struct Balancer {
    proxy: Proxy,
    bridges: Arc<Mutex<Vec<SocketAddr>>>,
    ready: Arc<Mutex<Vec<SocketAddr>>>,
    ended: Arc<AtomicBool>,
}

impl Balancer {
    fn start(bridges: Vec<SocketAddr>) -> Self {
        let proxy = Proxy::start(bridges.clone());
        let (bridges, ready, ended) = (Arc::new(Mutex::new(bridges)), Arc::default(), Arc::new(AtomicBool::new(false)));
        let balancer = Self { proxy, bridges, ready, ended };
        let (proxy, bridges) = (balancer.proxy.clone(), Arc::clone(&balancer.bridges));
        let (ready, ended) = (Arc::clone(&balancer.ready), Arc::clone(&balancer.ended));
        thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let mut found = bridges.lock().unwrap().clone();
                found.retain(|address| is_ready(*address));
                proxy.forward_to(found.clone());
                *ready.lock().unwrap() = found;
                thread::sleep(CHECK);
            }
        });
        balancer
    }

    fn replace(&self, place: usize, address: SocketAddr) {
        self.bridges.lock().unwrap()[place] = address;
    }

    fn uses(&self, address: SocketAddr) -> bool {
        self.ready.lock().unwrap().contains(&address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_rolling_restart_refuses_and_loses_no_webhook() {
    let seconds = number("HA_SECONDS").unwrap_or(SECONDS);
    let (pagerduty, database) = (pagerduty(), PostgresCluster::shared().database().unwrap());
    // The default drain; other tests do not drain.
    let settings = [DATABASE_TIMEOUT, ("BRIDGE_SHUTDOWN_DRAIN", "2s")];
    let mut bridges = [(); 2].map(|()| start(&pagerduty, &database, &settings));
    let balancer = Balancer::start(bridges.iter().map(|bridge| bridge.address).collect());
    let clients = Clients::start(vec![balancer.proxy.address], Duration::from_millis(20));
    let begun = Instant::now();
    let mut restarts = 0;
    while begun.elapsed() < Duration::from_secs(seconds) || restarts < 2 {
        let place = restarts % bridges.len();
        let bridge = &mut bridges[place];
        let ended = bridge.terminate("TERM");
        assert_eq!(ended.code(), Some(0), "{:#?}", bridge.process.stderr.all());
        bridge.restart();
        balancer.replace(place, bridge.address);
        wait_until("the readiness", || balancer.uses(bridge.address));
        restarts += 1;
    }
    let posts = clients.end();
    println!("{restarts} restarts in {:?}", begun.elapsed());
    drain(&database);
    assert_eq!(assert_delivered(&pagerduty, &posts), 0, "some webhooks were refused");
}
