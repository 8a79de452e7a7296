use super::*;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
use crate::queue::Envelope;

fn accept(bytes: usize) -> Operation {
    let envelope = Envelope {
        service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
        incident_key: IncidentKey::parse("42").unwrap(),
        event_type: EventType::Trigger,
        description: String::new(),
        body: vec![0; bytes],
        counts_at: None,
        received_at: DateTime::UNIX_EPOCH,
    };
    Operation::Enqueue(Box::new(Enqueue::event(envelope)), oneshot::channel().0)
}

fn round_of(bytes: usize) -> usize {
    let mut round = Round::default();
    while round.has_room() && round.operations.len() < 10_000 {
        round.add(accept(bytes));
    }
    round.operations.len()
}

#[test]
fn one_commit_is_bounded_by_operations_and_by_bytes() {
    assert_eq!(round_of(10), 512);
    assert_eq!(round_of(512_000), 17);
}
