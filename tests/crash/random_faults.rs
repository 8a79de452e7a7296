//! Random faults of PagerDuty between kills: all except permanent rejections.

use std::time::Duration;

use pagerduty_sandbox::{CloseMode, Fault, FaultBody, FaultRule, ThrottleStatus};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// The faults between two kills.
pub(crate) fn rules(random: &mut StdRng) -> Vec<FaultRule> {
    (0..random.random_range(0..=3)).map(|_| rule(random)).collect()
}

fn rule(random: &mut StdRng) -> FaultRule {
    let apply = random.random();
    let throttled = |status| Fault::Throttled { status, retry_after: None };
    let faults = [
        Fault::status(500),
        Fault::status(503),
        throttled(ThrottleStatus::Forbidden),
        throttled(ThrottleStatus::TooManyRequests),
        Fault::Close { apply, cut: CloseMode::Silent },
        Fault::Close { apply, cut: CloseMode::Reset },
        Fault::Close { apply: true, cut: CloseMode::Midway },
        Fault::Delay { by: Duration::from_millis(random.random_range(1..=100)) },
        Fault::success(200, FaultBody::Garbage),
        Fault::CloseIdle { after: Duration::ZERO },
    ];
    FaultRule {
        reused_connection: random.random(),
        from: random.random_range(1..=10),
        times: Some(random.random_range(1..=10)),
        ..faults.choose(random).unwrap().clone().into()
    }
}
