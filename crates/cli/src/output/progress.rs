//! Says what is being waited for, on standard error, once it has taken more than a second.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::Instant;

/// Silence that people bear.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line is renewed on a terminal.
const RENEWAL: Duration = Duration::from_millis(250);
/// How often a line is added elsewhere, as in a log.
const RENEWAL_IN_LOGS: Duration = Duration::from_secs(10);

/// One wait. Its line vanishes from a terminal when it is over.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    next: Instant,
    on_terminal: bool,
    shown: bool,
}

impl Progress {
    /// A wait that begins now.
    pub(crate) fn begin() -> Self {
        let began = Instant::now();
        Self { began, next: began + PATIENCE, on_terminal: io::stderr().is_terminal(), shown: false }
    }

    /// How long it has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says how it stands, if it is time to.
    pub(crate) fn tell(&mut self, what: &str) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let seconds = self.elapsed().as_secs();
        let line = super::escape::line(&format!("{what} ({seconds} s)"));
        let mut stderr = io::stderr().lock();
        // A line that can't be shown is no reason to stop waiting.
        if self.on_terminal {
            let _ = write!(stderr, "\r\u{1b}[2K{line}").and_then(|()| stderr.flush());
            self.next = now + RENEWAL;
        } else {
            let _ = writeln!(stderr, "{line}");
            self.next = now + RENEWAL_IN_LOGS;
        }
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.on_terminal {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\u{1b}[2K").and_then(|()| stderr.flush());
        }
    }
}
