//! The judgement and the alarms, as tables.

mod alarm;
mod clock;
mod judge;
