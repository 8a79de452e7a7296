//! `deploy/sentry-pagerduty-bridge.service`. Its hardening is checked by `systemd-analyze security` where that is
//! installed.

use super::{read, setting, stop_time};

/// Name and value of every line of a section, in order.
fn section(name: &str) -> Vec<(String, String)> {
    let unit = read("deploy/sentry-pagerduty-bridge.service");
    let lines = unit.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()).collect()
}

fn all(service: &[(String, String)], name: &str) -> Vec<String> {
    service.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
}

#[track_caller]
fn one(service: &[(String, String)], name: &str) -> String {
    let values = all(service, name);
    let [value] = &values[..] else { panic!("{name}: {values:?}") };
    value.clone()
}

#[test]
fn the_unit_gives_real_settings_and_a_credential_for_each_secret() {
    let service = section("Service");
    let credentials = all(&service, "LoadCredential");
    let mut secrets = 0;
    for variable in all(&service, "Environment") {
        let (name, value) = variable.split_once('=').unwrap();
        assert!(setting(name).is_some(), "{name} is no setting");
        if let Some(credential) = value.strip_prefix("%d/") {
            let loaded = format!("{credential}:/etc/sentry-pagerduty-bridge/{credential}");
            assert!(name.ends_with("_FILE") && credentials.contains(&loaded), "{variable}: {credentials:?}");
            secrets += 1;
        }
    }
    assert_eq!((secrets, credentials.len()), (4, 4));
}

#[test]
fn the_queue_is_in_the_units_own_folder() {
    let service = section("Service");
    let folder = one(&service, "StateDirectory");
    let database = format!("BRIDGE_DATABASE_URL=sqlite:%S/{folder}/bridge.db");
    assert!(all(&service, "Environment").contains(&database));
    assert_eq!(one(&service, "WorkingDirectory"), format!("%S/{folder}"));
    assert_eq!(one(&service, "StateDirectoryMode"), "0700");
    assert_eq!(one(&service, "ProtectSystem"), "strict");
}

#[test]
fn the_unit_starts_again_and_gives_time_to_stop() {
    let service = section("Service");
    assert_eq!(one(&service, "Restart"), "always");
    // The exit code for invalid settings.
    assert_eq!(one(&service, "RestartPreventExitStatus"), "2");
    let stop: u64 = one(&service, "TimeoutStopSec").parse().unwrap();
    assert!(stop > stop_time(|_| None).as_secs());
}

#[test]
fn the_unit_lets_the_bridge_open_many_files() {
    let limit: u64 = one(&section("Service"), "LimitNOFILE").parse().unwrap();
    assert!(limit >= 65_536, "{limit}");
}
