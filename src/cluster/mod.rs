//! Several bridges on one queue: which of them delivers for which service key.
//!
//! - [`member`]: what one bridge asks of the leases, and when it may send; pure

pub mod member;
