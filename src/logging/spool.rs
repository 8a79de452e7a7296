//! Lines on their way to standard error, written together by a thread of their own.
//!
//! A write for each line would cost an alert more than parsing it does.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a line may wait for others. The first one after a pause does not wait.
const LINGER: Duration = Duration::from_millis(2);

/// How many bytes may wait before whoever logs has to.
const MOST: usize = 1 << 20;

/// Lines that are not written yet; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Spool(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// For the thread: there is something to write.
    filled: Condvar,
    /// For those who log: something was written.
    written: Condvar,
    /// Whether the thread is there.
    attended: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Whether somebody is writing what waited before.
    writing: bool,
    /// Whether the thread wants to be woken.
    asleep: bool,
}

impl Spool {
    /// Starts the thread. Where that fails, [`Spool::is_attended`] stays false.
    pub(super) fn attend(&self) {
        let spool = self.clone();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                spool.sleep();
                spool.drain(&mut io::stderr());
                thread::sleep(LINGER);
            }
        });
        self.0.attended.store(thread.is_ok(), Ordering::Relaxed);
    }

    /// Whether somebody writes the lines without being asked.
    pub(super) fn is_attended(&self) -> bool {
        self.0.attended.load(Ordering::Relaxed)
    }

    /// Writes what waits, and returns when it is written. What cannot be written is lost, as with any log.
    pub(super) fn drain(&self, out: &mut impl Write) {
        let mut waiting = self.lock();
        while waiting.writing {
            waiting = self.0.written.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let lines = std::mem::take(&mut waiting.lines);
        if lines.is_empty() {
            return;
        }
        waiting.writing = true;
        drop(waiting);
        let _ = out.write_all(&lines);
        self.lock().writing = false;
        self.0.written.notify_all();
    }

    fn sleep(&self) {
        let mut waiting = self.lock();
        while waiting.lines.is_empty() {
            waiting.asleep = true;
            waiting = self.0.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Spool {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lock();
        while waiting.lines.len() >= MOST && self.is_attended() {
            waiting = self.0.written.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.lines.extend_from_slice(line);
        if std::mem::take(&mut waiting.asleep) {
            self.0.filled.notify_one();
        }
        Ok(line.len())
    }

    /// Leaves the lines to the thread; [`Spool::drain`] does not.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_together_and_in_their_order() {
        let mut spool = Spool::default();
        for line in ["a\n", "b\n", "c\n"] {
            spool.write_all(line.as_bytes()).unwrap();
            spool.flush().unwrap();
        }
        let mut out = Vec::new();
        spool.drain(&mut out);
        assert_eq!(out, b"a\nb\nc\n");
        spool.drain(&mut out);
        assert_eq!(out.len(), 6);
    }

    /// Tells that it began to write, and goes on when it may.
    struct Slow<'a>(&'a Spool, Vec<u8>);

    impl Write for Slow<'_> {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            // Nobody who logs waits for a write that is under way.
            self.0.clone().write_all(b"later\n")?;
            self.1.extend_from_slice(lines);
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_logged_while_others_are_written_is_kept_for_the_next_time() {
        let mut spool = Spool::default();
        spool.write_all(b"first\n").unwrap();
        let mut out = Slow(&spool, Vec::new());
        spool.drain(&mut out);
        assert_eq!(out.1, b"first\n");
        let mut rest = Vec::new();
        spool.drain(&mut rest);
        assert_eq!(rest, b"later\n");
    }
}
