//! A running program and the lines that it has written.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{EXTENSIONS, PATIENCE};

/// The program under test, with an empty environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge"));
    command.env_clear();
    command
}

/// A running program; dropping it kills it.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        // Every shell has a built-in `kill`; the program of that name is not installed everywhere.
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(status.success(), "the process is gone already: {:#?}", self.stderr.all());
    }

    /// Runs `action` while the process is stopped.
    #[track_caller]
    pub(crate) fn while_stopped<T>(&self, action: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        // Each thread stops when the system runs it next.
        while !self.is_stopped() {
            assert!(Instant::now() < deadline, "the process does not stop");
            thread::sleep(Duration::from_millis(1));
        }
        let result = action();
        self.signal("CONT");
        result
    }

    fn is_stopped(&self) -> bool {
        // `NUMBER (NAME) STATE ...`; a thread may have exited meanwhile.
        let mut threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.exit();
    }

    /// Waits for its exit.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.stderr.wait_for_end();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and a child that is killed is waited for at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of one output stream, as they come.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let writer = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                writer.change(|output| output.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.change(|output| output.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Output)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits for a line for which `find` returns something.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut next = 0;
        self.wait(what, |output| {
            let found = output.lines[next..].iter().find_map(|line| find(line));
            next = output.lines.len();
            found
        })
    }

    #[track_caller]
    fn wait_for_end(&self) {
        self.wait("the end", |output| output.ended.then_some(()));
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&Output) -> Option<T>) -> T {
        let end = Instant::now() + EXTENSIONS * PATIENCE;
        let (mut deadline, mut known) = (Instant::now() + PATIENCE, 0);
        let mut output = self.0.0.lock().unwrap();
        loop {
            // On a busy machine the wait is extended while there is progress.
            if output.lines.len() > known {
                (deadline, known) = (end.min(Instant::now() + PATIENCE), output.lines.len());
            }
            if let Some(found) = find(&output) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || output.ended {
                let lines = output.lines.clone();
                // A poisoned lock would hide this message behind those of the other threads that wait.
                drop(output);
                panic!("{what} did not come; these lines did: {lines:#?}");
            }
            output = self.0.1.wait_timeout(output, left).unwrap().0;
        }
    }
}
