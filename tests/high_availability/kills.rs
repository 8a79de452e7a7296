//! Three bridges of which one is killed every second, while the server ends connections and crashes, and a bridge is
//! suspended for longer than its leases.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use temporary_postgres::PostgresCluster;

use crate::load::Clients;
use crate::support::Bridge;
use crate::{LEVELS, assert_delivered, deliveries, drain, number, pagerduty, start, wait_until};

/// Number of kills.
const KILLS: u32 = 12;

/// The rate limit of each key: attempts per minute.
const RATE: usize = 30;

/// Counts the leases of keys that running bridges hold.
const HELD: &str = "SELECT count(*) FROM leases WHERE until > clock_timestamp()
    AND owner IN (SELECT id FROM bridges WHERE last_seen > clock_timestamp() - interval '5 seconds')";

const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

fn delivers(bridge: &Bridge) -> bool {
    let lines = bridge.process.stderr.all();
    lines.iter().any(|line| line.contains("this bridge delivers for the service key from now on"))
}

#[test]
fn what_three_bridges_answered_202_for_is_delivered_in_order_and_within_the_rate_whatever_fails() {
    let seed = number("HA_SEED").unwrap_or_else(rand::random);
    println!("HA_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = PostgresCluster::start(&[]).unwrap();
    let (pagerduty, url) = (pagerduty(), cluster.database().unwrap());
    let database = url.rsplit('/').next().unwrap();
    let rate = RATE.to_string();
    let settings = [("BRIDGE_PAGERDUTY_RATE", rate.as_str()), ("BRIDGE_DATABASE_TIMEOUT", "2s")];
    let mut bridges = [(); 3].map(|()| start(&pagerduty, &url, &settings));
    let clients = Clients::start(bridges.iter().map(|bridge| bridge.address).collect(), Duration::from_millis(100));
    pagerduty.wait_for_accepted(5);

    for kill in 0..KILLS {
        sleep(Duration::from_secs(1));
        match kill % 4 {
            1 => drop(cluster.psql(database, TERMINATE).unwrap()),
            2 if kill > 4 && kill < 8 => {
                cluster.stop().unwrap();
                cluster.start_again().unwrap();
            }
            _ => {}
        }
        let place = random.random_range(0..bridges.len());
        bridges[place].process.kill();
        bridges[place].restart();
        clients.move_to(place, bridges[place].address);
    }

    let every_key_has_a_bridge = || {
        let held = cluster.psql(database, HELD).unwrap();
        held == (LEVELS.len() + 1).to_string() && bridges.iter().all(delivers)
    };
    wait_until("the spread of the keys over the bridges", every_key_has_a_bridge);
    let frozen = &bridges[random.random_range(0..bridges.len())];
    frozen.process.signal("STOP");
    let since = Instant::now();
    // Its leases last until they end by the database's clock.
    let owned = "SELECT count(*) FROM leases WHERE until > clock_timestamp() AND owner NOT IN
        (SELECT id FROM bridges WHERE last_seen > clock_timestamp() - interval '5 seconds')";
    wait_until("the freeze", || cluster.psql(database, owned).unwrap() != "0");
    wait_until("the takeover of the keys", || cluster.psql(database, HELD).unwrap() == (LEVELS.len() + 1).to_string());
    println!("all keys of the frozen bridge were taken over after {:?}", since.elapsed());
    frozen.process.signal("CONT");
    let taken = clients.taken();
    wait_until("more alerts", || clients.taken() >= taken + 50);
    let posts = clients.end();
    drain(&url);
    assert_delivered(&pagerduty, &posts);
    deliveries::assert_rate(&pagerduty.journal(), RATE);
}
