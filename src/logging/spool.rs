//! Lines on their way to standard error, written together by a thread of their own.
//!
//! A write for each line would cost an alert more than parsing it does. And whoever reads the log may stop reading: then
//! only this thread stands still. Alerts go before log lines, so nobody who logs waits for a reader more than once, and
//! what finds no room meanwhile is counted instead of kept.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a line may wait for others. The first one after a pause does not wait.
const LINGER: Duration = Duration::from_millis(2);

/// How many bytes may wait to be written, give or take the last line.
const MOST: usize = 1 << 20;

/// How long whoever logs waits for the reader of the log, once until all is written again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines that are not written yet; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Spool(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// For the thread: there is something to write, or somebody waits for it.
    filled: Condvar,
    /// For those who log: something was written.
    written: Condvar,
    /// Whether the thread is there.
    attended: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// How many lines came and how many of those are written.
    came: u64,
    gone: u64,
    /// How many found no room and are not told of yet.
    lost: u64,
    /// Whether the thread wants to be woken.
    asleep: bool,
    /// Whether somebody waits for what came so far.
    urgent: bool,
    /// Whether somebody waited in vain, and not all is written since.
    stalled: bool,
}

/// The thread's; dropped when it ends, by a panic as well.
struct Attendance {
    spool: Spool,
    _ends: watch::Sender<()>,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.spool.0.attended.store(false, Ordering::Relaxed);
    }
}

impl Spool {
    /// Starts the thread, which writes to `out`, and where lines were lost also what `tells` makes of their number.
    /// Where that fails, lines are written when somebody [waits](Self::wait) for them.
    /// Returns what is closed when the thread ends, which it never should; lines are written as without it then.
    pub(super) fn attend(
        &self,
        mut out: impl Write + Send + 'static,
        tells: fn(u64) -> Vec<u8>,
    ) -> watch::Receiver<()> {
        let spool = self.clone();
        let (ends, ended) = watch::channel(());
        let attendance = Attendance { spool: self.clone(), _ends: ends };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _attendance = attendance;
            loop {
                spool.sleep();
                spool.write_on(&mut out, tells);
                spool.linger();
            }
        });
        // One that has ended already says so itself.
        if thread.is_ok() && ended.has_changed().is_ok() {
            self.0.attended.store(true, Ordering::Relaxed);
        }
        ended
    }

    /// Whether the thread is there.
    pub(super) fn is_attended(&self) -> bool {
        self.0.attended.load(Ordering::Relaxed)
    }

    /// Returns when all that came is written, or when nobody seems to read it.
    pub(super) fn wait(&self) {
        self.wait_for(PATIENCE);
    }

    fn wait_for(&self, patience: Duration) {
        if !self.is_attended() {
            self.write_on(&mut io::stderr(), |_| Vec::new());
            return;
        }
        let mut waiting = self.lock();
        let came = waiting.came;
        if waiting.gone < came {
            waiting.urgent = true;
            self.0.filled.notify_one();
        }
        let _ = self.until(waiting, patience, |waiting| waiting.gone >= came);
    }

    /// Waits until something is so, unless somebody did in vain and it is no better since. Says whether it is so.
    fn until<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        patience: Duration,
        is_so: impl Fn(&Waiting) -> bool,
    ) -> (MutexGuard<'a, Waiting>, bool) {
        let end = Instant::now() + patience;
        while !is_so(&waiting) {
            let left = end.saturating_duration_since(Instant::now());
            if waiting.stalled || left.is_zero() {
                waiting.stalled = true;
                return (waiting, false);
            }
            waiting = self.0.written.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (waiting, true)
    }

    /// Writes what waits. What cannot be written is lost, as with any log.
    fn write_on(&self, out: &mut impl Write, tells: fn(u64) -> Vec<u8>) {
        let mut waiting = self.lock();
        let mut lines = std::mem::take(&mut waiting.lines);
        let (came, lost) = (waiting.came, std::mem::take(&mut waiting.lost));
        drop(waiting);
        if lost > 0 {
            lines.extend_from_slice(&tells(lost));
        }
        let _ = out.write_all(&lines);
        let mut waiting = self.lock();
        waiting.gone = came;
        waiting.stalled &= !waiting.lines.is_empty();
        drop(waiting);
        self.0.written.notify_all();
    }

    fn sleep(&self) {
        let mut waiting = self.lock();
        while waiting.lines.is_empty() {
            waiting.asleep = true;
            waiting = self.0.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        (waiting.asleep, waiting.urgent) = (false, false);
    }

    fn linger(&self) {
        let is_calm = |waiting: &mut Waiting| !waiting.urgent;
        drop(self.0.filled.wait_timeout_while(self.lock(), LINGER, is_calm));
    }

    fn add(&self, line: &[u8], patience: Duration) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= MOST && self.is_attended() {
            let has_room;
            (waiting, has_room) = self.until(waiting, patience, |waiting| waiting.lines.len() < MOST);
            if !has_room {
                waiting.lost += 1;
                return;
            }
        }
        waiting.lines.extend_from_slice(line);
        waiting.came += 1;
        if std::mem::take(&mut waiting.asleep) {
            self.0.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Spool {
    /// Takes a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line, PATIENCE);
        Ok(line.len())
    }

    /// Leaves the lines to the thread; [`Spool::wait`] does not.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader of the log who has to be told to read on: each write is held until then.
    struct Reader {
        began: Sender<()>,
        goes_on: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.began.send(());
            // Whoever is gone lets everything pass.
            let _ = self.goes_on.recv();
            let _ = self.read.send(lines.to_vec());
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A spool that is attended, and the other ends of its reader.
    fn spool() -> (Spool, Receiver<()>, Sender<()>, Receiver<Vec<u8>>) {
        let (spool, (began, begins), (go_on, goes_on), (read, reads)) =
            (Spool::default(), channel(), channel(), channel());
        spool.attend(Reader { began, goes_on, read }, |lost| format!("{lost} lost\n").into_bytes());
        (spool, begins, go_on, reads)
    }

    #[test]
    fn lines_that_came_while_others_were_written_are_written_together_and_in_their_order() {
        let (spool, begins, go_on, reads) = spool();
        spool.add(b"first\n", PATIENCE);
        begins.recv().unwrap();
        for line in ["a\n", "b\n", "c\n"] {
            spool.add(line.as_bytes(), PATIENCE);
        }
        drop(go_on);
        spool.wait_for(Duration::from_mins(1));
        assert_eq!(reads.try_iter().collect::<Vec<_>>(), [&b"first\n"[..], b"a\nb\nc\n"]);
    }

    #[test]
    fn a_reader_who_stops_holds_up_nobody_and_learns_how_many_lines_were_lost() {
        let (spool, begins, go_on, reads) = spool();
        spool.add(b"first\n", PATIENCE);
        begins.recv().unwrap();
        let line = vec![b'x'; MOST];
        spool.add(&line, PATIENCE);
        // Nobody reads: who waits gives up once, and the next ones do not wait at all, however patient they are.
        spool.wait_for(Duration::from_millis(1));
        for _ in 0..3 {
            spool.wait_for(Duration::from_hours(1));
            spool.add(b"lost\n", Duration::from_hours(1));
        }
        drop(go_on);
        let read: Vec<u8> = reads.iter().take(2).flatten().collect();
        assert_eq!(read, [b"first\n", &line[..], b"3 lost\n"].concat());
        // Once all is written, whoever waits is heard again.
        let stalled = |waiting: &mut Waiting| waiting.stalled;
        drop(spool.0.written.wait_timeout_while(spool.lock(), Duration::from_mins(1), stalled).unwrap());
        spool.add(b"last\n", PATIENCE);
        spool.wait_for(Duration::from_mins(1));
        assert_eq!(reads.try_iter().collect::<Vec<_>>(), [b"last\n"]);
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("the log is broken")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_of_the_thread_is_told_and_nobody_waits_for_it() {
        let spool = Spool::default();
        let mut ended = spool.attend(Broken, |_| Vec::new());
        spool.add(b"first\n", PATIENCE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let told = runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), ended.changed()).await });
        assert!(told.expect("nobody is told").is_err());
        assert!(!spool.is_attended());
        spool.wait_for(Duration::from_hours(1));
    }

    #[test]
    fn without_a_thread_nothing_waits_for_room() {
        let spool = Spool::default();
        for _ in 0..2 {
            spool.add(&vec![b'x'; MOST], Duration::from_hours(1));
        }
        let mut out = Vec::new();
        spool.write_on(&mut out, |_| Vec::new());
        assert_eq!(out.len(), 2 * MOST);
    }
}
