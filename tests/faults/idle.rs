//! PagerDuty closes idle connections.

use std::net::TcpListener;

use pagerduty_sandbox::{CloseMode, Fault, FaultRule};
use sentry_pagerduty_bridge::queue::State;

use super::support::{Bridge, PagerDuty, alert};
use super::{logged, raw_server, wait_for_logs};

#[test]
fn an_idle_connection_that_was_closed_costs_neither_an_attempt_nor_a_warning() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bridge = Bridge::start(&format!("http://{}", listener.local_addr().unwrap()));
    for issue in 1..=3 {
        bridge.queue(&alert(issue, "Disk full"));
        let (mut stream, request) = raw_server::take_request(&listener);
        assert!(request.contains(&format!(r#""incident_key":"{issue}""#)), "{request}");
        raw_server::answer_success(&mut stream);
        wait_for_logs(&bridge, usize::try_from(issue).unwrap(), "\"delivered\"");
        // The stream is dropped here, so the connection closes while the bridge has it in its pool.
    }
    assert_eq!((logged(&bridge, "warn"), logged(&bridge, "error")), (vec![], vec![]));
    assert!(bridge.end().iter().all(|record| (record.summary.state, record.summary.attempts) == (State::Delivered, 1)));
}

#[test]
fn a_connection_closed_just_as_it_is_used_again_loses_nothing_and_raises_no_alarm() {
    for (apply, cut) in
        [(false, CloseMode::Silent), (true, CloseMode::Silent), (false, CloseMode::Reset), (true, CloseMode::Reset)]
    {
        let close = Fault::Close { apply, cut };
        let pagerduty = PagerDuty::with_fault(FaultRule { reused_connection: true, ..close.into() });
        let bridge = Bridge::start(&pagerduty.url());
        bridge.queue(&alert(1, "first"));
        wait_for_logs(&bridge, 1, "\"delivered\"");
        bridge.queue(&alert(2, "second"));
        wait_for_logs(&bridge, 2, "\"delivered\"");
        let journal = pagerduty.journal();
        let came_by: Vec<_> =
            journal.iter().map(|it| (it.text("incident_key").unwrap(), it.request.on_connection)).collect();
        assert_eq!(came_by, [("1", 1), ("2", 2), ("2", 1)], "the second event met the fault");
        assert_eq!(journal[1].request.body, journal[2].request.body);
        assert_eq!(pagerduty.counters().opened, 2);
        assert_eq!((logged(&bridge, "warn"), logged(&bridge, "error")), (vec![], vec![]));
        let told = logged(&bridge, "info");
        let again: Vec<_> = told.iter().filter(|line| line.contains("the connection ended before an answer")).collect();
        assert_eq!(again.len(), 1, "{told:?}");
        assert!(again[0].starts_with("sent again at once: "), "no pause: {again:?}");
        let attempts: Vec<_> =
            bridge.end().iter().map(|record| (record.summary.state, record.summary.attempts)).collect();
        assert_eq!(attempts, [(State::Delivered, 1), (State::Delivered, 2)]);
    }
}
